// WGA, weighted gradient ascent (Wang et al. 2025, "Rethinking LLM Unlearning Objectives: A
// Gradient Perspective and Go Beyond"):
//   L = -mean over tokens of p_t^beta * -log p_t,    the weight p_t^beta without gradient
// Tokens that are already unlikely count little, so it does not run away as GA does. beta 0 is
// GradDiff.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct WgaSettings {
  double beta = 1;
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "power of the token's probability; 0: GradDiff", Range::at_least(0));
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this); }
  static constexpr MethodPage page = {
      .file = "unlearning/wga.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \, \mathrm{sg}(p_t)^\beta \log p_t
    + \alpha \, L_R)",
      .symbols = R"(\beta: `beta`; 0 is GradDiff)",
      .units = 6,
      .traps = "The weight is a number: with a gradient through it, this is another loss.",
  };
};

inline Loss wga(const WgaSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor logp = model.token_logprob(batch.forget);  // [M]
  const at::Tensor weight = (s.beta * logp.detach()).exp();
  return {.forget = s.forget_weight * token_mean(weight * logp, batch.forget),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
