// LLMU (Yao et al. 2023, "Large Language Model Unlearning"): ascend on the forget answers,
// learn random answers to the same prompts, stay near the model as it was on normal text.
//   L = -e1 * NLL_F / |y_F| + e2 * NLL_A / |y_A| + e3 * KL(ref || model) on R
// Defaults as in the reference code: 0.5, 1, 1. It takes the KL over prompts and padding as well;
// here all three are means over answer tokens.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct LlmuSettings {
  double forget_weight = 0.5;
  double random_weight = 1;
  double retain_weight = 1;
  template <class V>
  void visit(V& v) {
    v("forget_weight", forget_weight, "e1, multiplies the ascent on the forget answers",
      Range::at_least(0));
    v("random_weight", random_weight, "e2, multiplies the NLL of random answers",
      Range::at_least(0));
    v("retain_weight", retain_weight, "e3, multiplies the KL on the retain answers",
      Range::above(0));
  }
  Needs needs(const ModelConfig&) const {
    return {.retain = true, .alternative = true, .retain_logits = true};
  }
  AlternativeAnswers alternatives() const { return {.source = "random"}; }
  static constexpr MethodPage page = {
      .file = "unlearning/llmu.h",
      .formula =
          R"(L = \epsilon_1 \, \operatorname{mean}_{t \in F} \, \log p_t
    - \epsilon_2 \, \operatorname{mean}_{t \in A} \, \log p_t
    + \epsilon_3 \, \operatorname{mean}_{t \in R} \, \mathrm{KL}(p_{\mathrm{ref}} \,\|\, p))",
      .symbols = R"(\epsilon_1: `forget_weight`
\epsilon_2: `random_weight`
\epsilon_3: `retain_weight`)",
      .units = 9,
      .cost = "The reference's last hidden states on R are computed once, 1 more an example.",
      .traps =
          "The reference code takes the KL over prompts and padding as well; here all three terms "
          "are means over answer tokens. Like gradient ascent it has no lower bound.",
  };
};

inline Loss llmu(const LlmuSettings& s, Model& model, const ForgetRetainBatch& batch) {
  Loss loss{.forget = -s.forget_weight * model.token_nll(batch.forget),
            .alternative = s.random_weight * model.token_nll(batch.alternative)};
  if (batch.retain.size() > 0) {
    loss.retain = s.retain_weight * kl_to_reference(model, batch.retain);
  }
  return loss;
}

}  // namespace resurface
