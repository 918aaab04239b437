// Adam (Kingma and Ba 2015) of one tensor, as torch.optim.Adam with its defaults.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

namespace resurface {

class Adam {
 public:
  explicit Adam(const at::Tensor& parameter)
      : mean_(at::zeros_like(parameter)), square_(at::zeros_like(parameter)) {}

  /// What to subtract from the parameter.
  at::Tensor step(const at::Tensor& gradient, double rate) {
    constexpr double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    ++time_;
    mean_ = beta1 * mean_ + (1 - beta1) * gradient;
    square_ = beta2 * square_ + (1 - beta2) * gradient.square();
    const auto scale = (square_ / (1 - std::pow(beta2, time_))).sqrt() + epsilon;
    return rate / (1 - std::pow(beta1, time_)) * mean_ / scale;
  }

 private:
  at::Tensor mean_, square_;
  int time_ = 0;
};

}  // namespace resurface
