// What objectives are made of. Notation in their files: NLL the negative log-likelihood summed over
// an answer's tokens, |y| their number, p_t the probability of token t, ref the model before
// training, F forget, R retain, A other answers to the forget prompts. Prompts and padding never
// count. Means are weighted by Example::weight.
//
// An objective is one header: its settings (`visit`, `needs`, `alternatives` where it trains
// towards other answers, and `page` with its formula) and its loss; methods.cpp lists it.
#pragma once

#include "core/run/method_page.h"
#include "core/run/settings.h"
#include "finetune/terms.h"
#include "finetune/trainer.h"
#include "unlearning/alternatives.h"

namespace resurface {

/// Mean over sequences of `values` [B].
at::Tensor sequence_mean(const at::Tensor& values, const Batch& batch);
/// log p of the answers now over before training, [B].
at::Tensor log_ratio(const Model& model, const Batch& batch);
/// -sum over the vocabulary of target * log p, a mean over answer tokens. `target` [M, vocab].
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target, const Batch& batch);

// Most objectives are gamma L_F + alpha L_R. Their settings have fields forget_weight (gamma),
// retain_weight (alpha) and retain_loss, and these three in common.
template <class V, class S>
void visit_weights(V& v, S& s) {
  v("forget_weight", s.forget_weight, "gamma, multiplies the forget loss", Range::at_least(0));
  v("retain_weight", s.retain_weight, "alpha, multiplies the retain loss; 0: no retain examples",
    Range::at_least(0));
  v("retain_loss", s.retain_loss, "nll of the retain answers, or kl of the model to what it was",
    OneOf{{"nll", "kl"}});
}

template <class S>
Needs with_retain(const S& s, Needs needs = {}) {
  needs.retain = s.retain_weight > 0;
  needs.retain_logits = needs.retain && s.retain_loss == "kl";
  return needs;
}

template <class S>
at::Tensor retain_term(const S& s, const Model& model, const ForgetRetainBatch& batch) {
  if (batch.retain.size() == 0) return {};
  return s.retain_weight * (s.retain_loss == "kl" ? kl_to_reference(model, batch.retain)
                                                  : model.token_nll(batch.retain));
}

}  // namespace resurface
