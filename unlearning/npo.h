// NPO (Zhang et al. 2024, "Negative Preference Optimization", eq. 3), with the retain term of its
// NPO+RT variant (retain_loss kl: NPO+KL):
//   L = -2/beta * mean over sequences of log sigmoid(beta * (NLL - NLL_ref))  +  alpha * NLL_R /
//   |y_R|
// NLL is *summed* over the answer: with a token-mean (some reference code) beta would mean
// something else for every length. It is made of the labels' log-probs, not of raw logits over the
// vocabulary (other reference code). NLL_ref comes in the batch, computed once before training, so
// no second model is held. As beta -> 0 the gradient tends to that of -mean over sequences of NLL:
// GA in its summed form.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct NpoSettings {
  double beta = 0.1;
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "inverse temperature; NPO tends to GA as beta -> 0", Range::above(0));
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const {
    return with_retain(*this, {.reference_logprob = true, .forget_mean = Mean::sequences});
  }
  static constexpr MethodPage page = {
      .file = "unlearning/npo.h",
      .formula =
          R"(L = -\frac{2 \gamma}{\beta} \, \operatorname{mean}_{(x, y) \in F} \,
    \log \sigma\big( \beta \, [\mathrm{NLL}(y \mid x) - \mathrm{NLL}_{\mathrm{ref}}(y \mid x)] \big)
    + \alpha \, L_R)",
      .symbols =
          R"(\beta: `beta`, inverse temperature; as it goes to 0 the gradient tends to that of
    gradient ascent on the summed NLL)",
      .units = 6,
      .cost =
          "The log-probs before training are computed once, 1 more an example; with a second model "
          "in every step it would be 7.",
      .traps =
          "The NLL is summed over the answer: with a token mean, as in some reference code, beta "
          "means something else for every length. It is made of the labels' log-probs; an NPO that "
          "subtracts raw logits over the whole vocabulary is another method.",
  };
};

inline Loss npo(const NpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor ratio = log_ratio(model, batch.forget);  // [B], NLL_ref - NLL
  const at::Tensor forget =
      -2 / s.beta * sequence_mean(at::log_sigmoid(-s.beta * ratio), batch.forget);
  return {.forget = s.forget_weight * forget, .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
