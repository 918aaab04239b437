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

inline constexpr auto dpo_formula =
    R"(L = -\frac{2 \gamma}{\beta} \, \operatorname{mean}_{(x, y) \in F} \,
    \log \sigma\big( \beta \, [r(y_A) - r(y)] \big)
    + \alpha \, L_R

r(y) = \mathrm{NLL}_{\mathrm{ref}}(y \mid x) - \mathrm{NLL}(y \mid x))";
inline constexpr auto dpo_cost =
    "The log-probs before training of both answers are computed once, 2 more an example; "
    "with a second model in every step it would be 11.";

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
  static constexpr MethodPage page = {
      .file = "unlearning/dpo.h",
      .formula = dpo_formula,
      .symbols = R"(r: how much likelier an answer has become, in nats, summed over its tokens
\beta: `beta`, inverse temperature
y_A: another answer to the same question, by `answers`)",
      .units = 9,
      .cost = dpo_cost,
      .traps =
          "Equal answers have no gradient. The rejected answer's term is not bounded by the chosen "
          "one's: both may become less likely.",
  };
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
  static constexpr MethodPage page = {
      .file = "unlearning/dpo.h",
      .formula = dpo_formula,
      .symbols = R"(r: how much likelier an answer has become, in nats, summed over its tokens
\beta: `beta`, inverse temperature
y_A: an answer that says, in one of several ways, that the model does not know)",
      .units = 9,
      .cost = dpo_cost,
      .traps =
          "It teaches a refusal: read it beside measures of what the model says when it does "
          "answer.",
  };
};

inline Loss dpo(const DpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return dpo_loss(s, model, batch);
}
inline Loss idk_dpo(const IdkDpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return dpo_loss(s, model, batch);
}

}  // namespace resurface
