// Stochastic gradient descent with momentum, as torch.optim.SGD has it, but with decoupled decay:
//   M <- mu M + G;   W <- (1 - eta lambda) W - eta (G + mu M) (Nesterov) or eta M
#pragma once

#include "core/run/settings.h"
#include "finetune/optimizer.h"

namespace resurface {

struct SgdSettings {
  double momentum = 0.9;
  bool nesterov = false;
  template <class V>
  void visit(V& v) {
    v("momentum", momentum, "of the gradients", Range::between(0, 1));
    v("nesterov", nesterov, "look ahead by one step of momentum");
  }
};

class Sgd : public Optimizer {
 public:
  Sgd(NamedTensors parameters, const SgdSettings& settings, double weight_decay);

 protected:
  std::vector<std::pair<const char*, const Slot*>> slots() const override {
    return {{"momentum", &momentum_}};
  }
  void update(double learning_rate, double divisor) override;

 private:
  SgdSettings settings_;
  double weight_decay_;
  Slot momentum_;
};

}  // namespace resurface
