#include "finetune/sgd.h"

namespace resurface {

Sgd::Sgd(NamedTensors parameters, const SgdSettings& settings, double weight_decay)
    : Optimizer(std::move(parameters)),
      settings_(settings),
      weight_decay_(weight_decay),
      momentum_(zeros([](const auto&, const auto&) { return true; })) {}

void Sgd::update(double learning_rate, double divisor) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor &value = parameters_[i].second, &gradient = value.grad();
    if (!gradient.defined()) continue;
    if (divisor != 1) gradient.div_(divisor);
    momentum_[i].mul_(settings_.momentum).add_(gradient);
    decay(value, learning_rate * weight_decay_);
    if (settings_.nesterov) {
      value.sub_(gradient.add_(momentum_[i], settings_.momentum), learning_rate);
    } else {
      value.sub_(momentum_[i], learning_rate);
    }
  }
}

}  // namespace resurface
