// Requests as fine-tuning one site's down projections sees them: what the blocks up to the edited
// one give is computed once, and the loss is a function of their change.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "core/model/model.h"
#include "editing/site.h"

namespace resurface {

/// Some requests as the blocks above the edited one see them.
struct FineTunePart {
  Batch batch;
  at::Tensor key;              ///< [N, key width] of the edited site
  at::Tensor middle, output;   ///< [N, d] the stream before its MLP, and what the MLP gave
  at::Tensor rows;             ///< [U] whose logits are wanted
  at::Tensor row, ids, owner;  ///< [M] of each target token: which of `rows`, its id, its request
  at::Tensor weight;           ///< [M] so that each request's sum is a mean
};

/// `answered`: each target token is scored where it would be answered, after those before it
/// (FT-M); otherwise all are where the prompt ends (FT-L).
FineTunePart fine_tune_part(const Model& model, const EditSite& site,
                            std::span<const EditExample> edits, int64_t first_edit, bool answered);

/// Mean NLL of a target token, of each of all `edits` requests; 0 for those not in the part.
at::Tensor target_nll(const Model& model, int64_t layer, const FineTunePart& part,
                      const at::Tensor& delta, int64_t edits);

}  // namespace resurface
