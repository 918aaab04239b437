// The computations of a study: plant, remove, measure. Each takes a model and changes or reads it;
// what is kept on disk and skipped when it is there is study.cpp's business.
#pragma once

#include "core/run/resources.h"
#include "editing/editor.h"
#include "eval/field/probe.h"
#include "eval/measure.h"
#include "study/config.h"
#include "study/inputs.h"

namespace resurface {

/// What making a model cost; examples are the distinct ones that its data holds.
struct StageCost {
  Cost cost;
  int64_t examples = 0;
};

/// Trains `model` on the lines (F), the retain set (R) and the further text. Without `lines` it
/// sees the same batches in the same order with the examples of F left out: the oracle, and with a
/// model trained from nothing literally wholesale retraining.
StageCost plant(Model& model, const StudyConfig& config, const StudyInputs& inputs, bool lines,
                const TrainerSettings& settings, uint64_t seed, const std::string& label,
                const std::filesystem::path& state);

/// Removes the lines by a method of gradient: "sft" (factual answers, or the removal's own text,
/// and R) or an unlearning objective. With reach "lora" the folder `adapter` gets the adapters (not
/// of layers, whose adapters come one on the other) before they are merged; empty: they are not
/// kept.
StageCost remove_by_training(Model& model, const Removal& removal, const StudyInputs& inputs,
                             uint64_t seed, const std::filesystem::path& state,
                             const std::filesystem::path& adapter = {});

/// Turns the teacher `model` into the student that "undo" trains on all texts (finetune/undo.h).
/// `implanted`: HF folder of the weights of a student "trained".
StageCost remove_by_undo(Model& model, const Removal& removal, const StudyInputs& inputs,
                         const std::filesystem::path& implanted, uint64_t seed,
                         const std::filesystem::path& state);

/// The edit that a method makes of the implanted model; the model is left as it is.
StageCost remove_by_editing(Model& model, const Removal& removal, const StudyInputs& inputs,
                            const std::filesystem::path& statistics, EditFile& edit);

/// Requests of an edit: for each item and language the seen questions, to be answered factually.
std::vector<EditRequest> edit_requests(const Removal& removal, const StudyInputs& inputs);

/// A benchmark's figures of `inputs.model`: {"benchmark", "settings", "aggregates", "items"}.
StageCost run_field(const FieldEntry& entry, const FieldInputs& inputs,
                    nlohmann::ordered_json& result);

bool is_edit(const Removal& removal);

}  // namespace resurface
