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
};

inline Loss task_vector(const TaskVectorSettings&, Model& model, const ForgetRetainBatch& batch) {
  return {.forget = model.token_nll(batch.forget)};
}

}  // namespace resurface
