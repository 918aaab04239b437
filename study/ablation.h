// Removal by directional ablation (editing/ablation.h) in a study: what the directions are taken
// from and what the search measures.
#pragma once

#include <filesystem>

#include "editing/ablation_search.h"
#include "study/config.h"
#include "study/inputs.h"
#include "study/stages.h"

namespace resurface {

AblationSettings ablation_settings(const Removal& removal);

/// The edit that the search chooses; the model is left as it is. Directions: the seen questions of
/// F against those of R. Talking-point rate: the lines' probability a token (geometric mean) on the
/// seen questions, averaged over lines. It moves with every token; counts of first choices hardly
/// move while a line is known by heart, and give a search nothing to go by.
/// KL: over whole texts of R and `data.text`, not of `data.benign`, on which the study measures.
/// `log` keeps the trials from run to run, `trials` gets them in the end.
StageCost remove_by_ablation(Model& model, const Removal& removal, const StudyInputs& inputs,
                             uint64_t seed, const std::filesystem::path& log,
                             const std::filesystem::path& trials, EditFile& edit);

}  // namespace resurface
