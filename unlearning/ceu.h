// CE-U (Yang 2025, "CE-U: Cross Entropy Unlearning"): the cross entropy to the model's own
// distribution without the answer token.
//   L = mean over tokens of CE(softmax(z with z[y_t] = -inf), p),   the target without gradient
// Its gradient in the logits is p minus the target, bounded, and vanishes as p(y_t) -> 0. As
// published there is no retain term (learning rate 1e-5). The reference code leaves the first token
// of an answer out; here all count.
#pragma once

#include <limits>

#include "unlearning/terms.h"

namespace resurface {

struct CeuSettings {
  double forget_weight = 1;
  double retain_weight = 0;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this); }
  static constexpr MethodPage page = {
      .file = "unlearning/ceu.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \,
    \mathrm{CE}\big( \mathrm{sg}(\mathrm{softmax}(\tilde z)), \, p \big)
    + \alpha \, L_R)",
      .symbols = R"(z: the logits
\tilde z: the same with that of the answer's token at minus infinity)",
      .units = 3,
      .cost = "Published without a retain term; with one it is 6.",
      .traps = "The reference code leaves an answer's first token out; here all count.",
  };
};

inline Loss ceu(const CeuSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor logits = answer_logits(model, batch.forget);  // [M, vocab]
  const at::Tensor target =
      logits.detach()
          .scatter(1, batch.forget.targets.unsqueeze(1), -std::numeric_limits<double>::infinity())
          .softmax(-1);
  return {.forget = s.forget_weight * cross_entropy(logits, target, batch.forget),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
