// AdamW (Loshchilov and Hutter 2019, algorithm 2) through LibTorch's fused kernel:
// torch::optim::AdamW walks the parameters one elementwise operation at a time and takes five times
// as long.
#pragma once

#include "finetune/optimizer.h"

namespace resurface {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;  ///< on matrices only: norms and biases do not decay
};

class AdamW : public Optimizer {
 public:
  /// Zero moments beside each parameter.
  AdamW(NamedTensors parameters, const AdamWSettings& settings)
      : AdamW(std::move(parameters), settings, [](const auto&, const auto&) { return true; }) {}

 protected:
  /// For those parameters alone for which of(name, value) holds; a subclass sees to the others.
  template <class Of>
  AdamW(NamedTensors parameters, const AdamWSettings& settings, const Of& of)
      : Optimizer(std::move(parameters)),
        settings_(settings),
        moment1_(zeros(of)),
        moment2_(zeros(of)) {}

  std::vector<std::pair<const char*, const Slot*>> slots() const override {
    return {{"moment1", &moment1_}, {"moment2", &moment2_}};
  }
  void update(double learning_rate, double divisor) override;

  AdamWSettings settings_;

 private:
  Slot moment1_, moment2_;
};

}  // namespace resurface
