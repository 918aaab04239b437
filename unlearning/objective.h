// Unlearning objectives. Each is a function of (settings, model, batch) in a file of its own,
// readable beside its formula; methods.cpp lists them, one line a method.
//
// Notation in the files: NLL the negative log-likelihood summed over an answer's tokens, |y| their
// number. Prompts never count. Means are weighted by Example::weight.
#pragma once

#include "core/run/settings.h"
#include "finetune/trainer.h"

namespace resurface {

struct GaSettings {
  template <class V>
  void visit(V&) {}
};
struct GradDiffSettings {
  double forget_weight = 1;  // gamma
  double retain_weight = 1;  // alpha
  template <class V>
  void visit(V& v) {
    v("forget_weight", forget_weight, "gamma, multiplies the forget loss", Range::at_least(0));
    v("retain_weight", retain_weight, "alpha, multiplies the retain loss", Range::at_least(0));
  }
};
struct NpoSettings {
  double beta = 0.1;
  double forget_weight = 1;
  double retain_weight = 1;
  template <class V>
  void visit(V& v) {
    v("beta", beta, "inverse temperature; NPO tends to GA as beta -> 0", Range::above(0));
    v("forget_weight", forget_weight, "gamma, multiplies the forget loss", Range::at_least(0));
    v("retain_weight", retain_weight, "alpha, multiplies the retain loss", Range::at_least(0));
  }
};

Loss gradient_ascent(const GaSettings&, Model&, const ForgetRetainBatch&);
Loss grad_diff(const GradDiffSettings&, Model&, const ForgetRetainBatch&);
Loss npo(const NpoSettings&, Model&, const ForgetRetainBatch&);

}  // namespace resurface
