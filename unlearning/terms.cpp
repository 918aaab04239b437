#include "unlearning/terms.h"

namespace resurface {

at::Tensor sequence_mean(const at::Tensor& values, const Batch& batch) {
  const at::Tensor weight = batch.weight.to(values.scalar_type());
  return (values * weight).sum() / weight.sum();
}

at::Tensor log_ratio(const Model& model, const Batch& batch) {
  return model.sequence_logprob(batch) - batch.reference_logprob;
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target, const Batch& batch) {
  return token_mean(-(target * logits.log_softmax(-1)).sum(-1), batch);
}

}  // namespace resurface
