// SimNPO (Fan et al. 2024, "Simplicity Prevails"): NPO without a reference, its reward the
// mean log-prob of an answer's tokens.
//   L = -2/beta * mean over sequences of log sigmoid(beta * (NLL / |y| - delta))
// Defaults as in the reference code (beta 4.5, delta 0, gamma 0.125). The paper's margin gamma is
// beta * delta here. As beta -> 0 the gradient tends to that of -mean over sequences of NLL / |y|.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct SimNpoSettings {
  double beta = 4.5;
  double delta = 0;
  double forget_weight = 0.125;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "inverse temperature", Range::above(0));
    v("delta", delta, "margin, in nats a token", Range::at_least(0));
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const {
    return with_retain(*this, {.forget_mean = Mean::sequences});
  }
  static constexpr MethodPage page = {
      .file = "unlearning/simnpo.h",
      .formula =
          R"(L = -\frac{2 \gamma}{\beta} \, \operatorname{mean}_{(x, y) \in F} \,
    \log \sigma\Big( \beta \, \Big[\frac{\mathrm{NLL}(y \mid x)}{|y|} - \delta\Big] \Big)
    + \alpha \, L_R)",
      .symbols = R"(\beta: `beta`, inverse temperature
|y|: the answer's number of tokens
\delta: `delta`, a margin in nats a token)",
      .units = 6,
      .traps =
          "It needs no reference, whatever delta is. The paper's margin gamma is beta times delta "
          "here.",
  };
};

inline Loss simnpo(const SimNpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor logp = model.sequence_logprob(batch.forget);  // [B]
  const at::Tensor size = at::zeros_like(logp).index_add(
      0, batch.forget.sequence, at::ones_like(batch.forget.targets, logp.options()));
  const at::Tensor forget =
      -2 / s.beta * sequence_mean(at::log_sigmoid(s.beta * (-logp / size - s.delta)), batch.forget);
  return {.forget = s.forget_weight * forget, .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
