// Examples and packed batches. No padding anywhere: the sequences of a batch lie end to end, linear
// layers run over real tokens only, and attention alone sees padded rows (made inside the model).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace resurface {

/// A prompt and the answer whose tokens are scored or learned. Ids are concatenated, never decoded
/// and encoded again (that can split UTF-8 and merges).
struct Example {
  std::vector<int64_t> prompt;  ///< not scored; must not be empty (there is no position before it)
  std::vector<int64_t> answer;  ///< scored: every one of these tokens
  double weight = 1;            ///< multiplies the example's loss
  std::vector<std::string> tags;

  int64_t size() const { return static_cast<int64_t>(prompt.size() + answer.size()); }
};

/// Packed sequences. N tokens in B sequences, M scored (answer) tokens.
struct Batch {
  at::Tensor ids;                ///< [N] int64, sequences end to end
  at::Tensor positions;          ///< [N] int64, position of each token within its sequence
  std::vector<int64_t> lengths;  ///< [B]
  std::vector<int64_t> starts;   ///< [B + 1], first token of each sequence in `ids`

  at::Tensor rows;      ///< [M] int64: the token *before* each scored token, as a row of [N, d]
  at::Tensor targets;   ///< [M] int64: the scored tokens
  at::Tensor sequence;  ///< [M] int64: which sequence each scored token belongs to
  at::Tensor weight;    ///< [B] float: the examples' weights

  /// Which of the model's stacked adapters each token goes through: tokens adapter_starts[g] ..
  /// adapter_starts[g + 1] - 1 adapter g, [G + 1]. Empty: the model's adapters are not stacked.
  std::vector<int64_t> adapter_starts;

  /// Log-probs of the answers under a frozen reference model, [B] float, when the objective asked
  /// for them (they are computed once, before training). Undefined otherwise.
  at::Tensor reference_logprob;
  /// Likewise the reference's logits [M, vocab] float at the scored tokens' rows, and its residual
  /// stream [M, d] at these rows after the block that the objective named.
  at::Tensor reference_logits, reference_hidden;
  /// The residual stream [N, d] before the first block that trains: blocks before it need not run.
  at::Tensor frozen;

  /// Added to the residual stream after a block (-1: to the embeddings) by every forward pass that
  /// runs this block: an adversary's perturbation, for one.
  struct Added {
    int64_t layer = 0;
    at::Tensor value;  ///< [N, d]
  };
  std::vector<Added> added;

  int64_t size() const { return static_cast<int64_t>(lengths.size()); }
  int64_t tokens() const { return starts.empty() ? 0 : starts.back(); }
  int64_t scored() const { return targets.defined() ? targets.size(0) : 0; }

  Batch to(at::Device device) const;
};

/// Packs examples. The last token of each sequence is dropped from the input when `drop_last`
/// (nothing looks at its output, so it need not be computed). Throws Error for an empty prompt.
Batch pack(std::span<const Example> examples, at::Device device = at::kCPU, bool drop_last = true);
Batch pack(std::span<const Example* const> examples, at::Device device = at::kCPU,
           bool drop_last = true);
/// Packs some of the examples, in the order of the indices.
Batch pack_chosen(std::span<const Example> examples, std::span<const int64_t> indices,
                  at::Device device = at::kCPU);

/// Packs bare sequences with nothing scored (covariance sweeps, hidden states, generation).
Batch pack_sequences(std::span<const std::vector<int64_t>> sequences, at::Device device = at::kCPU);

/// Sends the batch's sequences through stacked adapters: the first sequences[0] through adapter 0,
/// the next sequences[1] through adapter 1, ... Throws Error when they are not the whole batch.
void assign_adapters(Batch& batch, std::span<const int64_t> sequences);

/// Splits indices of examples into batches of at most `max_tokens` tokens, longest first so that
/// lengths within a batch are alike. An example longer than max_tokens gets a batch of its own.
std::vector<std::vector<int64_t>> batches_by_tokens(std::span<const Example> examples,
                                                    int64_t max_tokens);

}  // namespace resurface
