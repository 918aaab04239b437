#include "finetune/adamw.h"

namespace resurface {

void AdamW::update(double learning_rate, double divisor) {
  for (const bool decays : {true, false}) {
    std::vector<at::Tensor> values, gradients, first, second;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const at::Tensor& value = parameters_[i].second;
      if (!moment1_[i].defined()) continue;
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

}  // namespace resurface
