#include "finetune/adamw.h"

#include "core/run/error.h"

namespace resurface {

AdamW::AdamW(NamedTensors parameters, const AdamWSettings& settings)
    : parameters_(std::move(parameters)), settings_(settings) {
  for (const auto& [name, value] : parameters_) {
    if (value.scalar_type() != at::kFloat) {
      fail("training needs fp32 weights, and {} is {}: load the model as fp32", name,
           at::toString(value.scalar_type()));
    }
    moment1_.push_back(at::zeros_like(value));
    moment2_.push_back(at::zeros_like(value));
  }
}

at::Tensor AdamW::gradient_norm() const {
  std::vector<at::Tensor> gradients;
  for (const auto& [name, value] : parameters_) {
    if (value.grad().defined()) gradients.push_back(value.grad());
  }
  if (gradients.empty()) return at::zeros({}, at::kFloat);
  return at::stack(at::_foreach_norm(gradients, 2)).norm();
}

void AdamW::step(double learning_rate, double divisor) {
  const at::NoGradGuard no_grad;
  ++steps_;
  for (const bool decays : {true, false}) {
    std::vector<at::Tensor> values, gradients, first, second;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const at::Tensor& value = parameters_[i].second;
      if (!value.grad().defined() || (value.dim() >= 2) != decays) continue;
      values.push_back(value);
      gradients.push_back(value.grad());
      first.push_back(moment1_[i]);
      second.push_back(moment2_[i]);
    }
    if (values.empty()) continue;
    const auto options = values[0].options().requires_grad(false);
    const std::vector<at::Tensor> steps(values.size(),
                                        at::scalar_tensor(static_cast<double>(steps_), options));
    std::optional<at::Tensor> scale;
    if (divisor != 1) scale = at::scalar_tensor(divisor, options);
    at::_fused_adamw_(values, gradients, first, second, {}, steps, learning_rate, settings_.beta1,
                      settings_.beta2, decays ? settings_.weight_decay : 0, settings_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false, scale);
    // The fused kernel leaves the version counters alone, and the model tells by them that its
    // low-precision copies of the weights are out of date.
    for (const at::Tensor& value : values) value.unsafeGetTensorImpl()->bump_version();
  }
}

void AdamW::clear_gradients() {
  for (auto& [name, value] : parameters_) value.mutable_grad().reset();
}

NamedTensors AdamW::state() const {
  NamedTensors all;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, value] = parameters_[i];
    all.emplace_back("parameter." + name, value.detach());
    all.emplace_back("moment1." + name, moment1_[i]);
    all.emplace_back("moment2." + name, moment2_[i]);
  }
  return all;
}

}  // namespace resurface
