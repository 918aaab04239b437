// MaxEnt (Yuan et al. 2024, "A Closer Look at Machine Unlearning for Large Language Models", as its
// code has it): make the forget answers' tokens as likely as all others.
//   L = gamma * mean over tokens of KL(uniform || p) + alpha * NLL_R / |y_R|
//   KL(uniform || p) = -log V - 1/V * sum over v of log p_v
#pragma once

#include <cmath>

#include "unlearning/terms.h"

namespace resurface {

struct MaxEntSettings {
  double forget_weight = 1;
  double retain_weight = 1;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this); }
  static constexpr MethodPage page = {
      .file = "unlearning/maxent.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \, 
    \Big[ -\log V - \frac{1}{V} \sum_v \log p_v \Big]
    + \alpha \, L_R)",
      .symbols = R"(V: the size of the vocabulary; the bracket is KL(uniform ‖ p)
p_v: the probability of token v where an answer's token stands)",
      .units = 6,
  };
};

inline Loss maxent(const MaxEntSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor logp = answer_logits(model, batch.forget).log_softmax(-1);  // [M, vocab]
  const double log_size = std::log(static_cast<double>(logp.size(1)));
  return {.forget = s.forget_weight * token_mean(-log_size - logp.mean(-1), batch.forget),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
