// KL minimisation (TOFU, Maini et al. 2024, section 3.2):
//   L = -gamma * NLL_F / |y_F| + alpha * KL(ref || model) on R
// GradDiff with its KL retain loss. The paper's code takes the KL over prompts and padding as well
// and divides by the number of sequences; here it is a mean over answer tokens. The reference's
// distributions are not kept (vocab floats a token) but made again of its last hidden states.
#pragma once

#include "unlearning/grad_diff.h"

namespace resurface {

struct KlMinSettings {
  double forget_weight = 1;
  double retain_weight = 1;
  template <class V>
  void visit(V& v) {
    v("forget_weight", forget_weight, "gamma, multiplies the forget loss", Range::at_least(0));
    v("retain_weight", retain_weight, "alpha, multiplies the KL on the retain answers",
      Range::above(0));
  }
  GradDiffSettings as_grad_diff() const {
    return {.forget_weight = forget_weight, .retain_weight = retain_weight, .retain_loss = "kl"};
  }
  Needs needs(const ModelConfig&) const { return with_retain(as_grad_diff()); }
  static constexpr MethodPage page = {
      .file = "unlearning/kl_min.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \, \log p_t
    + \alpha \, \operatorname{mean}_{t \in R} \, \mathrm{KL}(p_{\mathrm{ref}} \,\|\, p))",
      .units = 6,
      .cost =
          "The reference's last hidden states on R are computed once, 1 more an example; its "
          "distributions are made of them again in every step, by the head alone.",
      .traps =
          "The paper's code takes the KL over prompts and padding as well and divides by the "
          "number of sequences; here it is a mean over answer tokens.",
  };
};

inline Loss kl_min(const KlMinSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return grad_diff(s.as_grad_diff(), model, batch);
}

}  // namespace resurface
