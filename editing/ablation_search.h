// The search for the ablation that removes most at a bounded change of everything else.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "editing/ablation_space.h"
#include "editing/ablation_trials.h"
#include "editing/editor.h"

namespace resurface {

struct AblationObjectives {
  double rate = 0;  ///< of talking points
  double kl = 0;    ///< from the model as it was
};

struct AblationSearch {
  EditFile edit;  ///< the chosen trial's; its settings hold that and the Pareto front
  std::vector<AblationTrial> trials;
  std::vector<bool> front;  ///< which of them no other dominates
  size_t chosen = 0;
};

/// Tries ablations: each is applied, measured by `measure` and undone to the bit. Every trial goes
/// to `log` (JSON lines) as it ends; trials that are there already are not run again.
AblationSearch search_ablation(const AblationSettings& settings, Model& model,
                               const at::Tensor& directions,
                               const std::function<AblationObjectives()>& measure, uint64_t seed,
                               const std::filesystem::path& log, const std::string& label = "");

/// The trial kept: lowest rate within the bound of KL, then lowest KL; without any, lowest KL.
size_t choose_trial(std::span<const AblationTrial> trials, double kl_bound);

/// {"trial", "random", "chosen", "front", "rate", "kl", "parameters", "flops", "seconds"} a trial.
std::string trial_lines(const AblationSearch& search, const AblationSettings& settings,
                        int64_t layers);

}  // namespace resurface
