// GradDiff (Liu et al. 2022, "Continual Learning and Private Unlearning"; as in TOFU, Maini et al.
// 2024, section 3.2): ascend on the forget answers, descend on the retain answers.
//   L = -gamma * NLL_F / |y_F| + alpha * NLL_R / |y_R|      (each a mean over the step's answer
//   tokens)
// Reference code that lets label -100 through averages over prompts and padding too; nothing but
// answer tokens is ever scored here.
#include "unlearning/objective.h"

namespace resurface {

Loss grad_diff(const GradDiffSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return {.forget = -s.forget_weight * model.token_nll(batch.forget),
          .retain = s.retain_weight * model.token_nll(batch.retain)};
}

}  // namespace resurface
