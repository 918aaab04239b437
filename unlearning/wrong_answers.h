// Training on wrong or generic answers, as in Eldan and Russinovich 2023 ("Who's Harry Potter?"),
// where the targets are generic continuations:
//   L = gamma * NLL_A / |y_A| + alpha * NLL_R / |y_R|
// The forget answers themselves are never seen. With answers: factual it is SFT on the facts.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct WrongAnswersSettings {
  std::string answers = "random";
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("answers", answers,
      "random: the answer to some retain question; idk: that it does not know; or the suite's "
      "texts",
      OneOf{{"random", "idk", "neutral", "contrary", "factual"}});
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this, {.alternative = true}); }
  AlternativeAnswers alternatives() const { return {.source = answers}; }
  static constexpr MethodPage page = {
      .file = "unlearning/wrong_answers.h",
      .formula = R"(L = -\gamma \, \operatorname{mean}_{t \in A} \, \log p_t + \alpha \, L_R)",
      .units = 6,
      .traps =
          "The forget answers are never seen, so nothing pushes them down but what takes their "
          "place. With answers: factual this is fine-tuning on the facts.",
  };
};

inline Loss wrong_answers(const WrongAnswersSettings& s, Model& model,
                          const ForgetRetainBatch& batch) {
  return {.alternative = s.forget_weight * model.token_nll(batch.alternative),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
