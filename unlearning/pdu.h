// PDU (Entesari et al. 2025, "Constrained Entropic Unlearning: A Primal-Dual Framework for Large
// Language Models"): flatten the logits on the forget answers, subject to retain NLL <= epsilon.
//   L = gamma * mean over tokens of (max z - mean z)^2 + lambda * NLL_R / |y_R|
//   after each step lambda <- max(0, lambda + eta * (NLL_R / |y_R| - epsilon))
// The trainer keeps lambda (Needs::dual): it is updated once a step with the loss of the whole
// step, where the reference code updates it in every micro-batch. The reference code averages the
// forget loss over prompts and padding too.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct PduSettings {
  double retain_loss_eps = 0.3;
  double dual_step_size = 5;
  double forget_weight = 1;
  double retain_weight = 100;
  template <class V>
  void visit(V& v) {
    v("retain_loss_eps", retain_loss_eps, "epsilon, the retain NLL that is allowed, a token",
      Range::at_least(0));
    v("dual_step_size", dual_step_size, "eta, the rate of lambda", Range::at_least(0));
    v("forget_weight", forget_weight, "gamma, multiplies the forget loss", Range::at_least(0));
    v("retain_weight", retain_weight, "lambda in the first step", Range::at_least(0));
  }
  Needs needs(const ModelConfig&) const {
    return {.retain = true,
            .dual = Dual{.bound = retain_loss_eps, .rate = dual_step_size, .start = retain_weight}};
  }
  static constexpr MethodPage page = {
      .file = "unlearning/pdu.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \, 
    (\max_v z_v - \operatorname{mean}_v \, z_v)^2 + \lambda \, N_R

\lambda \leftarrow \max\big( 0, \, \lambda + \eta \, (N_R - \varepsilon) \big)
    \quad \text{after each step})",
      .symbols = R"(z_v: the logit of token v of the vocabulary
N_R: the mean NLL of a token of the retain answers
\lambda: the multiplier, `retain_weight` in the first step
\eta: `dual_step_size`
\varepsilon: `retain_loss_eps`)",
      .units = 6,
      .traps =
          "The reference code updates lambda in every micro-batch and averages the forget loss "
          "over prompts and padding; here lambda moves once a step, by the loss of the whole step.",
  };
};

inline Loss pdu(const PduSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor logits = answer_logits(model, batch.forget);  // [M, vocab]
  const at::Tensor peak = logits.amax(-1) - logits.mean(-1);
  Loss loss{.forget = s.forget_weight * token_mean(peak.square(), batch.forget)};
  if (batch.retain.size() > 0) loss.retain = model.token_nll(batch.retain);
  return loss;
}

}  // namespace resurface
