// The trainer's state on disk, for exact resume: one safetensors file with the trained parameters,
// the optimiser's moments and the reference log-probs; the counters are in its metadata. The
// sampler has no state (finetune/sampler.h).
#pragma once

#include <filesystem>
#include <string>

#include "finetune/adamw.h"
#include "finetune/trainer.h"

namespace resurface {

/// Hash over everything that decides where a run ends: settings, seed, needs, examples.
std::string run_fingerprint(const TrainData& data, const Needs& needs,
                            const TrainerSettings& settings, uint64_t seed);

void save_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                        const AdamW& optimizer, const at::Tensor& reference,
                        const TrainResult& result);
/// Reads one back into the optimiser (and so the model), `reference` and `result`. Throws Error
/// when the file belongs to another run.
void load_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                        AdamW& optimizer, at::Tensor& reference, TrainResult& result);

}  // namespace resurface
