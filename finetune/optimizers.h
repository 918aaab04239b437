// The optimisers by name.
#pragma once

#include <memory>

#include "finetune/trainer.h"

namespace resurface {

/// The one that settings.optimizer names. muonclip is Muon here: the clipping needs the model
/// (finetune/qk_clip.h).
std::unique_ptr<Optimizer> make_optimizer(NamedTensors parameters, const TrainerSettings& settings);

}  // namespace resurface
