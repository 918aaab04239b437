// Task vectors (Ilharco et al. 2023, "Editing Models with Task Arithmetic", section 3): fine-tune
// on the forget answers, then go as far the other way.
//   theta_F: theta trained on NLL_F / |y_F|;   result theta - scale * (theta_F - theta)
// The trainer takes the last step (Needs::negate) and keeps theta's trained weights for it on the
// CPU; adapters need no copy. scale 0 is the identity. The paper picks the largest scale that keeps
// control tasks at 95%.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct TaskVectorSettings {
  double scale = 1;
  template <class V>
  void visit(V& v) {
    v("scale", scale, "s, how far the other way", Range::at_least(0));
  }
  Needs needs(const ModelConfig&) const { return {.negate = scale}; }
  static constexpr MethodPage page = {
      .file = "unlearning/task_vector.h",
      .formula =
          R"(\theta' = \theta - s \, (\theta_F - \theta), \quad
    \theta_F = \arg\min_\theta \, -\operatorname{mean}_{t \in F} \, \log p_t)",
      .symbols = R"(\theta_F: the weights after training on the forget answers, from $\theta$
s: `scale`; 0 is the identity)",
      .units = 3,
      .cost = "The weights before training are kept on the CPU; adapters need no copy.",
      .traps =
          "It is a direction found by overfitting: the longer the training, the longer the step "
          "back. The paper picks the largest scale that keeps control tasks at 95%.",
  };
};

inline Loss task_vector(const TaskVectorSettings&, Model& model, const ForgetRetainBatch& batch) {
  return {.forget = model.token_nll(batch.forget)};
}

}  // namespace resurface
