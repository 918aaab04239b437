#include "finetune/optimizers.h"

#include "core/run/error.h"

namespace resurface {

std::unique_ptr<Optimizer> make_optimizer(NamedTensors parameters,
                                          const TrainerSettings& settings) {
  const AdamWSettings adamw{.beta1 = settings.beta1,
                            .beta2 = settings.beta2,
                            .epsilon = settings.epsilon,
                            .weight_decay = settings.weight_decay};
  const std::string& name = settings.optimizer;
  if (name == "adamw") return std::make_unique<AdamW>(std::move(parameters), adamw);
  if (name == "muon" || name == "muonclip") {
    return std::make_unique<Muon>(std::move(parameters), settings.muon, adamw);
  }
  if (name == "sgd") {
    return std::make_unique<Sgd>(std::move(parameters), settings.sgd, settings.weight_decay);
  }
  if (name == "lion") {
    return std::make_unique<Lion>(std::move(parameters), settings.lion, settings.weight_decay);
  }
  fail("optimizer: expected adamw, muon, muonclip, sgd or lion, got '{}'", name);
}

}  // namespace resurface
