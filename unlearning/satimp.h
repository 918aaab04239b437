// SatImp (Yang et al. 2025, "Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning"):
// gradient ascent on tokens weighted by saturation and importance.
//   L = -mean over tokens of p_t^beta1 * (1 - p_t)^beta2 * -log p_t,   weights without gradient
// Defaults as in the reference code: beta1 5, beta2 1, gamma 0.1, alpha 1. beta2 0 is WGA.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct SatImpSettings {
  double beta1 = 5;
  double beta2 = 1;
  double forget_weight = 0.1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta1", beta1, "power of p_t: how much unlikely tokens are spared", Range::at_least(0));
    v("beta2", beta2, "power of 1 - p_t: how much certain tokens are spared; 0: WGA",
      Range::at_least(0));
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this); }
  static constexpr MethodPage page = {
      .file = "unlearning/satimp.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \, 
    \mathrm{sg}\big( p_t^{\beta_1} (1 - p_t)^{\beta_2} \big) \log p_t
    + \alpha \, L_R)",
      .symbols = R"(\beta_1: `beta1`, spares tokens that are unlikely already
\beta_2: `beta2`, spares tokens that are certain; 0 is WGA)",
      .units = 6,
      .traps =
          "At a line known by heart, 1 - p is nearly 0 and so is the gradient; it starts slowly "
          "there. The weight is without gradient.",
  };
};

inline Loss satimp(const SatImpSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor logp = model.token_logprob(batch.forget);  // [M]
  const at::Tensor p = logp.detach().exp();
  const at::Tensor weight = p.pow(s.beta1) * (1 - p).clamp_min(0).pow(s.beta2);
  return {.forget = s.forget_weight * token_mean(weight * logp, batch.forget),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
