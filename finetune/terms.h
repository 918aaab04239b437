// Terms of losses that more than one part is made of. Prompts and padding never count; means are
// weighted by Example::weight.
#pragma once

#include "core/model/model.h"

namespace resurface {

/// Logits at the rows that predict the answers' tokens, [M, vocab] float.
at::Tensor answer_logits(const Model& model, const Batch& batch);
/// Mean over answer tokens of `values` [M].
at::Tensor token_mean(const at::Tensor& values, const Batch& batch);
/// KL(ref || model) of the next token, a mean over answer tokens; ref is the model before training
/// (Batch::reference_logits).
at::Tensor kl_to_reference(const Model& model, const Batch& batch);

}  // namespace resurface
