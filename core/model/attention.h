// How a batch's attention is laid out: computed once a forward pass, shared by all blocks.
#pragma once

#include "core/model/model.h"
#include "core/tensor/attention.h"

namespace resurface {

struct Model::AttentionPlan {
  /// Of each token's position: [N, dims / 2], scaled.
  struct Turned {
    at::Tensor cos, sin;
    bool interleaved = false;
  };

  AttentionLayout layout;  ///< the sequences as they lie in the packed rows
  bool packed = false;     ///< our kernel reads the packed rows; else attention is padded
  std::optional<Turned> turn, local_turn;  ///< of the rotary embedding, and of layers with a window
  at::Tensor cache_row, cache_position;    ///< [N] where each token's key goes in the cache
  /// Query-key pairs a head looks at, by the layer's window (0: none): for the FLOP count.
  std::map<int64_t, double> pairs;

  // Only where attention is padded.
  int64_t longest = 0;   ///< T, the longest sequence of the batch
  bool uniform = false;  ///< all sequences have length T: padded and packed rows are the same
  at::Tensor pick;       ///< [B·T] packed row of each padded row; padding repeats row 0
  at::Tensor back;       ///< [N] padded row of each packed row
  int64_t past = 0;      ///< P, the longest cached prefix
  int64_t reach = 0;     ///< positions of the longest sequence with its prefix
  /// [B or 1, 1, T, keys] bool by window; absent where plain causal attention does.
  std::map<int64_t, at::Tensor> masks;

  /// Batch::adapter_starts, over all rows and over those that the last block computes alone.
  std::vector<int64_t> adapter_starts, adapter_starts_of_rows;
  const std::vector<int64_t>& adapters(bool of_rows) const {
    return of_rows ? adapter_starts_of_rows : adapter_starts;
  }
  /// `rows`: HiddenOptions::rows. Throws Error when stacked adapters meet rows not in order.
  void assign_adapters(const Batch& batch, const at::Tensor& rows);
  /// How the queries and keys of a layer turn; null: they do not.
  const Turned* turned(const ModelConfig& config, int64_t layer) const {
    const auto& own = config.window(layer) > 0 && local_turn ? local_turn : turn;
    return own ? &*own : nullptr;
  }

  AttentionPlan(const Model& model, const Batch& batch, const KvCache* cache, bool append);

 private:
  Turned turned_by(const Model::Turn& turn, const Batch& batch) const;
  void pad(const Batch& batch, const ModelConfig& config, bool append);
  at::Tensor mask(const Batch& batch, int64_t window, bool append) const;
};

/// Which of the rows `rows` [R] (ascending, on the CPU) each of a stack's adapters gets, where it
/// gets rows starts[g] .. starts[g + 1] - 1 of all.
std::vector<int64_t> starts_among(const std::vector<int64_t>& starts, const at::Tensor& rows);

/// Query-key pairs of `length` positions behind `seen` others, within a window (0: none).
double attention_pairs(int64_t length, int64_t seen, int64_t window);

}  // namespace resurface
