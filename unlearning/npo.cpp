// NPO (Zhang et al. 2024, "Negative Preference Optimization", eq. 3), with the retain term of its
// NPO+RT variant:
//   L = -2/beta * mean over sequences of log sigmoid(beta * (NLL - NLL_ref))  +  alpha * NLL_R /
//   |y_R|
// NLL is *summed* over the answer: with a token-mean (some reference code) beta would mean
// something else for every length. It is made of the labels' log-probs, not of raw logits over the
// vocabulary (other reference code). NLL_ref comes in the batch, computed once before training, so
// no second model is held. As beta -> 0 the gradient tends to that of -mean over sequences of NLL:
// GA in its summed form.
#include "unlearning/objective.h"

namespace resurface {

Loss npo(const NpoSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const at::Tensor ratio =
      model.sequence_logprob(batch.forget) - batch.forget.reference_logprob;  // [B], NLL_ref - NLL
  const at::Tensor weight = batch.forget.weight / batch.forget.weight.sum();
  const at::Tensor forget = -2 / s.beta * (weight * at::log_sigmoid(-s.beta * ratio)).sum();
  return {.forget = s.forget_weight * forget,
          .retain = s.retain_weight * model.token_nll(batch.retain)};
}

}  // namespace resurface
