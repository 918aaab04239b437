// UNDIAL (Dong et al. 2024, "UNDIAL: Self-Distillation with Adjusted Logits"): distil the
// model as it was, with the logit of each answer token lowered.
//   L = mean over tokens of CE(softmax(z_ref - beta * onehot(y_t)), p)
// Defaults as in the reference code: beta 10, no retain term; learning rate 1e-4.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct UndialSettings {
  double beta = 10;
  double forget_weight = 1;
  double retain_weight = 0;
  std::string retain_loss = "nll";
  template <class V>
  void visit(V& v) {
    v("beta", beta, "what is taken off the answer token's logit", Range::at_least(0));
    visit_weights(v, *this);
  }
  Needs needs(const ModelConfig&) const { return with_retain(*this, {.forget_logits = true}); }
  static constexpr MethodPage page = {
      .file = "unlearning/undial.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \,
    \mathrm{CE}\big( \mathrm{softmax}(z^{\mathrm{ref}} - \beta \, e_{y_t}), \, p \big)
    + \alpha \, L_R)",
      .symbols = R"(z^{\mathrm{ref}}: the logits before training
e_{y_t}: 1 at the answer's token, 0 elsewhere
\beta: `beta`, what is taken off that token's logit)",
      .units = 3,
      .cost =
          "The reference's last hidden states are computed once, 1 more an example. With a retain "
          "term it is 6 a step; with that and a second model in every step it would be 7.",
      .traps =
          "Published without a retain term and with a learning rate of 1e-4, ten times the other "
          "methods'.",
  };
};

inline Loss undial(const UndialSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor& before = batch.forget.reference_logits;  // [M, vocab]
  const at::Tensor label = batch.forget.targets.unsqueeze(1);
  const at::Tensor lower = at::full_like(label, -s.beta, before.options());
  const at::Tensor target = before.scatter_add(1, label, lower).softmax(-1);
  return {.forget = s.forget_weight *
                    cross_entropy(answer_logits(model, batch.forget), target, batch.forget),
          .retain = retain_term(s, model, batch)};
}

}  // namespace resurface
