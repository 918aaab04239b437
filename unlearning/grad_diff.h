// GradDiff (Liu et al. 2022, "Continual Learning and Private Unlearning"; as in TOFU, Maini et al.
// 2024, section 3.2): ascend on the forget answers, descend on the retain answers.
//   L = -gamma * NLL_F / |y_F| + alpha * NLL_R / |y_R|      (each a mean over the step's answer
//   tokens)
// or, with retain_loss kl, alpha * KL(ref || model) on the retain answers. Reference code that lets
// label -100 through averages over prompts and padding too; nothing but answer tokens is ever
// scored here.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct GradDiffSettings {
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this); }
  static constexpr MethodPage page = {
      .file = "unlearning/grad_diff.h",
      .formula = R"(L = \gamma \, \operatorname{mean}_{t \in F} \, \log p_t + \alpha \, L_R)",
      .units = 6,
      .traps =
          "Averaging over prompts and padding, as reference code that lets label -100 through "
          "does, weakens both terms by an amount that depends on the padding.",
  };
};

inline Loss grad_diff(const GradDiffSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return {.forget = -s.forget_weight * model.token_nll(batch.forget),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
