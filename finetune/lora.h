// LoRA (Hu et al. 2021): adapters on all linear layers of the blocks.
#pragma once

#include <filesystem>
#include <string>

#include "core/model/model.h"
#include "finetune/trainer.h"

namespace resurface {

/// Attaches fresh adapters: A Kaiming-uniform(sqrt 5), B zero, scale alpha / rank; base weights
/// stop training, adapters train.
void attach_lora(Model& model, const LoraSettings& settings, uint64_t seed);
/// Fresh values in place for adapters already attached.
void reset_lora(Model& model, uint64_t seed);
void detach_lora(Model& model);
/// W += scale · B A, then detaches.
void merge_lora(Model& model);
/// Writes the attached adapters as a PEFT folder.
void export_lora(Model& model, const std::filesystem::path& folder, const std::string& base_model);

}  // namespace resurface
