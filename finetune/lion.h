// Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2):
//   W <- (1 - eta lambda) W - eta sign(b1 M + (1 - b1) G);   M <- b2 M + (1 - b2) G
// The authors take rates 3 to 10 times lower than AdamW's, and decays as many times higher.
#pragma once

#include "core/run/settings.h"
#include "finetune/optimizer.h"

namespace resurface {

struct LionSettings {
  double beta1 = 0.9, beta2 = 0.99;
  template <class V>
  void visit(V& v) {
    v("beta1", beta1, "share of the momentum in the update", Range::between(0, 1));
    v("beta2", beta2, "share of the momentum that is kept", Range::between(0, 1));
  }
};

class Lion : public Optimizer {
 public:
  Lion(NamedTensors parameters, const LionSettings& settings, double weight_decay);

 protected:
  std::vector<std::pair<const char*, const Slot*>> slots() const override {
    return {{"momentum", &momentum_}};
  }
  void update(double learning_rate, double divisor) override;

 private:
  LionSettings settings_;
  double weight_decay_;
  Slot momentum_;
};

}  // namespace resurface
