// AdamW (Loshchilov and Hutter 2019, algorithm 2) through LibTorch's fused kernel:
// torch::optim::AdamW walks the parameters one elementwise operation at a time and takes five times
// as long.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace resurface {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;  ///< on matrices only: norms and biases do not decay
};

class AdamW {
 public:
  /// Keeps the parameters (fp32, by reference) and zero moments beside each.
  AdamW(NamedTensors parameters, const AdamWSettings& settings);

  /// The 2-norm over all gradients; a parameter without one counts as zero. Scalar on their device.
  at::Tensor gradient_norm() const;
  /// One update from the parameters' gradients divided by `divisor`. A parameter without a gradient
  /// stays as it is. The gradients are left in an unspecified state.
  void step(double learning_rate, double divisor = 1);
  /// Releases all gradients.
  void clear_gradients();

  const NamedTensors& parameters() const { return parameters_; }
  int64_t steps() const { return steps_; }

  /// Parameters and moments under "parameter.NAME", "moment1.NAME", "moment2.NAME": shared, not
  /// copied.
  NamedTensors state() const;
  /// Copies a state back; `tensor(name)` gives what `state` called so.
  template <class Get>
  void restore(const Get& tensor, int64_t steps) {
    for (auto& [name, value] : state()) value.copy_(tensor(name));
    steps_ = steps;
  }

 private:
  NamedTensors parameters_;
  std::vector<at::Tensor> moment1_, moment2_;
  AdamWSettings settings_;
  int64_t steps_ = 0;
};

}  // namespace resurface
