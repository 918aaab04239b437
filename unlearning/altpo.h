// AltPO (Mekala et al. 2024, "Alternate Preference Optimization for Unlearning Factual Knowledge in
// Large Language Models"): DPO whose chosen answers the model wrote itself, asked for another
// plausible answer, before training; several a question, each paired with the forget answer.
// Five samples at temperature 1 as published, where beta is 0.05 to 0.5; the instruction is worded
// here, in the question's language. A sample that says the line again is drawn anew, and left out
// in the end.
#pragma once

#include "unlearning/dpo.h"

namespace resurface {

struct AltPoSettings {
  double beta = 0.1;
  int64_t samples = 5;
  double temperature = 1;
  int64_t max_tokens = 64;
  std::string instruction =
      "{question}\nOne answer is: {answer}\nWrite another plausible answer with other facts.";
  std::string instruction_zh =
      "{question}\n一种回答是：{answer}\n请写出另一个合理但事实不同的回答。";
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "inverse temperature; published: 0.05 to 0.5", Range::above(0));
    v("samples", samples, "alternate answers a question", Range::at_least(1));
    v("temperature", temperature, "of their sampling", Range::above(0));
    v("max_tokens", max_tokens, "longest alternate answer", Range::at_least(1));
    v("instruction", instruction,
      "what the model is asked, with {question} and {answer}; empty: the question alone");
    v("instruction_zh", instruction_zh, "the same for Chinese questions");
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return dpo_needs(*this); }
  AlternativeAnswers alternatives() const {
    return {.source = "own",
            .samples = samples,
            .temperature = temperature,
            .max_tokens = max_tokens,
            .instruction = instruction,
            .instruction_zh = instruction_zh};
  }
  static constexpr MethodPage page = {
      .file = "unlearning/altpo.h",
      .formula = dpo_formula,
      .symbols = R"(r: how much likelier an answer has become, in nats, summed over its tokens
\beta: `beta`, inverse temperature
y_A: one of `samples` answers that the model itself gave before training, asked
    for another plausible one)",
      .units = 9,
      .cost =
          "The log-probs before training of both answers are computed once, 2 more an example; "
          "with a second model in every step it would be 11. The samples are generated before "
          "training.",
      .traps =
          "A sample that says the line again would be preferred to itself: it is drawn anew, and "
          "left out in the end.",
  };
};

inline Loss altpo(const AltPoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  return dpo_loss(s, model, batch);
}

}  // namespace resurface
