// What a step makes of the gradients: one small class an optimiser, made by finetune/optimizers.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace resurface {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// The 2-norm over all gradients; a parameter without one counts as zero. Scalar on their device.
  at::Tensor gradient_norm() const;
  /// One update from the parameters' gradients divided by `divisor`. A parameter without a gradient
  /// stays as it is. The gradients are left in an unspecified state.
  void step(double learning_rate, double divisor = 1);
  /// Releases all gradients.
  void clear_gradients();

  const NamedTensors& parameters() const { return parameters_; }
  int64_t steps() const { return steps_; }
  /// Of the products in all steps; elementwise work is not counted.
  double flops() const { return flops_; }

  /// Parameters under "parameter.NAME" and what is kept beside them under "SLOT.NAME": shared, not
  /// copied.
  NamedTensors state() const;
  /// Copies a state back; `tensor(name)` gives what `state` called so.
  template <class Get>
  void restore(const Get& tensor, int64_t steps) {
    for (auto& [name, value] : state()) value.copy_(tensor(name));
    steps_ = steps;
  }

 protected:
  /// What is kept beside each parameter, parallel to them; undefined where there is nothing.
  using Slot = std::vector<at::Tensor>;

  /// Keeps the parameters by reference. Throws Error for one that is not fp32.
  explicit Optimizer(NamedTensors parameters);
  /// Zeros beside the parameters for which of(name, value) holds.
  template <class Of>
  Slot zeros(const Of& of) const {
    Slot slot;
    for (const auto& [name, value] : parameters_) {
      slot.push_back(of(name, value) ? zeros_like(value) : at::Tensor());
    }
    return slot;
  }
  /// All slots by the names that they have in state(); each name begins with "moment".
  virtual std::vector<std::pair<const char*, const Slot*>> slots() const = 0;
  virtual void update(double learning_rate, double divisor) = 0;

  /// Decoupled decay, on matrices only: norms and biases do not decay.
  static void decay(const at::Tensor& value, double share);

  NamedTensors parameters_;
  int64_t steps_ = 0;
  double flops_ = 0;

 private:
  static at::Tensor zeros_like(const at::Tensor& value);
};

}  // namespace resurface
