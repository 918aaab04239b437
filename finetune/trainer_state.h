// The trainer's state on disk, for exact resume: one safetensors file with the trained parameters,
// the optimiser's moments and what was kept of the model before training (finetune/reference.h);
// the counters are in its metadata. The sampler has no state (finetune/sampler.h).
#pragma once

#include <filesystem>
#include <string>

#include "finetune/optimizer.h"
#include "finetune/trainer.h"

namespace resurface {

/// Hash over everything that decides where a run ends: settings, seed, needs, examples.
std::string run_fingerprint(const TrainData& data, const Needs& needs,
                            const TrainerSettings& settings, const Wrap& wrap, uint64_t seed);

/// `kept` is what else a run goes on from, under names of its own.
void save_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                        const Optimizer& optimizer, const NamedTensors& kept,
                        const TrainResult& result);
/// Reads one back into the optimiser (and so the model) and `result`; returns `kept`. Throws Error
/// when the file belongs to another run.
NamedTensors load_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                                Optimizer& optimizer, TrainResult& result);

}  // namespace resurface
