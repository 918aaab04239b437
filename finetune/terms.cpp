#include "finetune/terms.h"

namespace resurface {

at::Tensor answer_logits(const Model& model, const Batch& batch) {
  const at::Tensor z = model.logits(model.hidden(batch, {.rows = batch.rows}));
  return z.scalar_type() == at::kDouble ? z : z.to(at::kFloat);
}

at::Tensor token_mean(const at::Tensor& values, const Batch& batch) {
  const at::Tensor weight = batch.weight.index_select(0, batch.sequence).to(values.scalar_type());
  return (values * weight).sum() / weight.sum();
}

at::Tensor kl_to_reference(const Model& model, const Batch& batch) {
  const at::Tensor before = batch.reference_logits.log_softmax(-1);
  const at::Tensor now = answer_logits(model, batch).log_softmax(-1);
  return token_mean((before.exp() * (before - now)).sum(-1), batch);
}

}  // namespace resurface
