// DPO (Rafailov et al. 2023, "Direct Preference Optimization", eq. 7) with the forget answer as the
// rejected one and another answer y_a to the same prompt as the chosen one, scaled by 2/beta as NPO
// is, which is this without a chosen answer:
//   L = -2/beta * mean over sequences of log sigmoid(beta * (r(y_a) - r(y_F))),
//   r(y) = log p(y | x) - log p_ref(y | x), summed over the answer
// IdkDPO (TOFU, Maini et al. 2024, section 3.2, "preference optimization"): y_a says that it does
// not know. Equal answers have no gradient.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

template <class S>
Needs dpo_needs(const S& s) {
  return with_retain(
      s, {.reference_logprob = true, .forget_mean = Mean::sequences, .alternative = true});
}

template <class S>
Loss dpo_loss(const S& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor margin =
      log_ratio(model, batch.alternative) - log_ratio(model, batch.forget);  // [B]
  const at::Tensor forget =
      -2 / s.beta * sequence_mean(at::log_sigmoid(s.beta * margin), batch.forget);
  return {.forget = s.forget_weight * forget, .retain = retain_term(s, model, batch)};
}

struct DpoSettings {
  double beta = 0.1;
  std::string answers = "factual";
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "inverse temperature", Range::above(0));
    v("answers", answers, "the chosen answers: the suite's, or the answer to some retain question",
      OneOf{{"factual", "neutral", "contrary", "random"}});
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return dpo_needs(*this); }
  AlternativeAnswers alternatives() const { return {.source = answers}; }
};

struct IdkDpoSettings {
  double beta = 0.1;
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "inverse temperature", Range::above(0));
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return dpo_needs(*this); }
  AlternativeAnswers alternatives() const { return {.source = "idk"}; }
};

inline Loss dpo(const DpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return dpo_loss(s, model, batch);
}
inline Loss idk_dpo(const IdkDpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return dpo_loss(s, model, batch);
}

}  // namespace resurface
