// Gradient ascent (Jang et al. 2023, "Knowledge Unlearning for Mitigating Privacy Risks in Language
// Models", eq. 1, with the sign turned so that it is minimised):
//   L = -mean over answer tokens of -log p(y_t | y_<t, x)
// Unbounded below: it ends the model if it is not stopped. The paper sums over all tokens of a text
// that is all target; here prompts do not count.
#pragma once

#include "unlearning/terms.h"

namespace resurface {

struct GaSettings {
  template <class V>
  void visit(V&) {}
  Needs needs(const ModelConfig&) const { return {}; }
  static constexpr MethodPage page = {
      .file = "unlearning/ga.h",
      .formula = R"(L = \operatorname{mean}_{t \in F} \, \log p_t)",
      .units = 3,
      .traps =
          "It has no lower bound: without an early stop the model ends as noise. With token labels "
          "of -100 let through, or prompts counted, it ascends on the questions too.",
  };
};

inline Loss gradient_ascent(const GaSettings&, Model& model, const ForgetRetainBatch& batch) {
  return {.forget = -model.token_nll(batch.forget)};
}

}  // namespace resurface
