// LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023: the scale is alpha / sqrt(rank)) and DoRA (Liu
// et al. 2024: the rows' lengths train apart from their directions), on all linear layers of the
// blocks.
#pragma once

#include <filesystem>
#include <string>

#include "core/model/model.h"
#include "finetune/trainer.h"

namespace resurface {

/// The layers that have an adapter. Throws Error, naming the action, where none has.
std::vector<Linear*> adapted_layers(Model& model, const char* action);

/// What the adapters are multiplied by: alpha / rank, rslora alpha / sqrt(rank).
double lora_scale(const LoraSettings& settings);
/// Attaches fresh adapters: A Kaiming-uniform(sqrt 5), B zero, with dora the lengths of the
/// weight's rows; base weights stop training, adapters train.
void attach_lora(Model& model, const LoraSettings& settings, uint64_t seed);
/// Fresh values in place for adapters already attached.
void reset_lora(Model& model, uint64_t seed);
void detach_lora(Model& model);
/// W += scale · B A, with dora the rows then brought to their lengths; detaches.
void merge_lora(Model& model);
/// Writes the attached adapters as a PEFT folder. `rslora`: with its rule for the scale.
void export_lora(Model& model, const std::filesystem::path& folder, const std::string& base_model,
                 bool rslora = false);
/// Attaches the adapters of a PEFT folder, which may leave layers out. Throws Error for one of a
/// layer that the model does not have, or of another shape.
void import_lora(Model& model, const std::filesystem::path& folder);

}  // namespace resurface
