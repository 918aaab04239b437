// The relearning attack: light fine-tuning meant to bring the lines back, the same for every model
// it is run on (removed, implanted, oracle). What it trains on: eval/attack/rung.h.
//
// Utility: exp(u(step) - u(0)), u the mean log-prob of a token over the retain probes: the
// geometric mean probability of retained tokens, relative to the attacked model before the attack.
// A measurement counts as an attack only where utility >= `utility_bound` ("within"); a run that
// has left the bound ends there.
#pragma once

#include <functional>
#include <span>

#include "core/model/model.h"
#include "eval/attack/data.h"
#include "eval/attack/row.h"

namespace resurface {

/// A learning rate and its schedule.
struct Rate {
  double learning_rate = 0;
  std::string schedule;
  auto operator<=>(const Rate&) const = default;
};

/// The rate with which the first seed recovered most within the utility bound: by the best mean
/// extraction strength at any step, then by the best mean log-prob a token. The lowest rate when
/// none stays within the bound. `rows`: of one model, rung, reach and seed; with folds, of all of
/// them, and a step counts only where every fold is within the bound.
Rate pick_rate(const std::vector<AttackRow>& rows);

struct AttackHooks {
  /// Called once a finished run and rung, with all its rows, the last of them `final`.
  std::function<void(const std::vector<AttackRow>&)> on_run;
  std::string label;  ///< prefix of the progress lines; empty: no progress
};

/// Runs every run that `done` (rows of `name`, others are ignored) does not hold yet and returns
/// all rows of `name`: those done and the new ones. The model ends bit for bit as it began,
/// whatever happens. A run whose loss is no longer finite ends there; its row says `diverged`.
///
/// With folds (make_attack_folds) every run of rungs a and b is made once in each, and the learning
/// rate of further seeds is one for all folds. Rows of step 0 are there once, their part "test".
std::vector<AttackRow> attack(Model& model, const std::string& name,
                              std::span<const AttackData> folds, const AttackSettings& settings,
                              const std::vector<AttackRow>& done = {},
                              const AttackHooks& hooks = {});
inline std::vector<AttackRow> attack(Model& model, const std::string& name, const AttackData& data,
                                     const AttackSettings& settings,
                                     const std::vector<AttackRow>& done = {},
                                     const AttackHooks& hooks = {}) {
  return attack(model, name, std::span(&data, 1), settings, done, hooks);
}

}  // namespace resurface
