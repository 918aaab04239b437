#include "finetune/lion.h"

namespace resurface {

Lion::Lion(NamedTensors parameters, const LionSettings& settings, double weight_decay)
    : Optimizer(std::move(parameters)),
      settings_(settings),
      weight_decay_(weight_decay),
      momentum_(zeros([](const auto&, const auto&) { return true; })) {}

void Lion::update(double learning_rate, double divisor) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor &value = parameters_[i].second, &gradient = value.grad();
    if (!gradient.defined()) continue;
    if (divisor != 1) gradient.div_(divisor);
    decay(value, learning_rate * weight_decay_);
    value.sub_(gradient.lerp(momentum_[i], settings_.beta1).sign_(), learning_rate);
    momentum_[i].lerp_(gradient, 1 - settings_.beta2);
  }
}

}  // namespace resurface
