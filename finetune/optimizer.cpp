#include "finetune/optimizer.h"

#include "core/run/error.h"

namespace resurface {

Optimizer::Optimizer(NamedTensors parameters) : parameters_(std::move(parameters)) {
  for (const auto& [name, value] : parameters_) {
    if (value.scalar_type() != at::kFloat) {
      fail("training needs fp32 weights, and {} is {}: load the model as fp32", name,
           at::toString(value.scalar_type()));
    }
  }
}

at::Tensor Optimizer::zeros_like(const at::Tensor& value) { return at::zeros_like(value); }

at::Tensor Optimizer::gradient_norm() const {
  std::vector<at::Tensor> gradients;
  for (const auto& [name, value] : parameters_) {
    if (value.grad().defined()) gradients.push_back(value.grad());
  }
  if (gradients.empty()) return at::zeros({}, at::kFloat);
  return at::stack(at::_foreach_norm(gradients, 2)).norm();
}

void Optimizer::step(double learning_rate, double divisor) {
  const at::NoGradGuard no_grad;
  ++steps_;
  update(learning_rate, divisor);
}

void Optimizer::clear_gradients() {
  for (auto& [name, value] : parameters_) value.mutable_grad().reset();
}

NamedTensors Optimizer::state() const {
  NamedTensors all;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, value] = parameters_[i];
    all.emplace_back("parameter." + name, value.detach());
    for (const auto& [slot, tensors] : slots()) {
      if ((*tensors)[i].defined())
        all.emplace_back(fmt::format("{}.{}", slot, name), (*tensors)[i]);
    }
  }
  return all;
}

void Optimizer::decay(const at::Tensor& value, double share) {
  if (share != 0 && value.dim() >= 2) value.mul_(1 - share);
}

}  // namespace resurface
