// How a batch's attention is laid out: computed once a forward pass, shared by all blocks.
#pragma once

#include "core/model/model.h"
#include "core/tensor/attention.h"

namespace resurface {

struct Model::AttentionPlan {
  AttentionLayout layout;  ///< the sequences as they lie in the packed rows
  bool packed = false;     ///< our kernel reads the packed rows; else LibTorch's attention, padded
  at::Tensor cos, sin;     ///< [N, head_dim / 2] of each token's position
  at::Tensor cache_row, cache_position;  ///< [N] where each token's key goes in the cache
  double pairs = 0;                      ///< query-key pairs a head looks at: for the FLOP count

  // Only where attention is padded.
  int64_t longest = 0;   ///< T, the longest sequence of the batch
  bool uniform = false;  ///< all sequences have length T: padded and packed rows are the same
  at::Tensor pick;       ///< [B·T] packed row of each padded row; padding repeats row 0
  at::Tensor back;       ///< [N] padded row of each packed row
  at::Tensor mask;       ///< [B, 1, T, keys] bool, only with a cache that holds positions
  int64_t past = 0;      ///< P, the longest cached prefix

  /// Batch::adapter_starts, over all rows and over those that the last block computes alone.
  std::vector<int64_t> adapter_starts, adapter_starts_of_rows;
  const std::vector<int64_t>& adapters(bool of_rows) const {
    return of_rows ? adapter_starts_of_rows : adapter_starts;
  }
  /// `rows`: HiddenOptions::rows. Throws Error when stacked adapters meet rows not in order.
  void assign_adapters(const Batch& batch, const at::Tensor& rows);

  AttentionPlan(const Batch& batch, const ModelConfig& config, at::ScalarType compute,
                const at::Tensor& cos_table, const at::Tensor& sin_table, const KvCache* cache,
                bool append);

 private:
  void pad(const Batch& batch, const std::vector<int64_t>& seen, bool append);
};

}  // namespace resurface
