// Teacher-forced scores of answers: one forward over real tokens, logits only at answer rows.
#pragma once

#include <span>
#include <vector>

#include "core/data/batch.h"
#include "core/model/model.h"

namespace resurface {

/// Of one (prompt, answer). Definitions: docs/metrics.md.
struct Score {
  double logprob = 0;             ///< summed over the answer's tokens, nats
  int64_t tokens = 0;             ///< |y|
  double exact_memorization = 0;  ///< share of tokens that are the argmax, teacher-forced
  double extraction_strength =
      0;  ///< 1 - k/|y|, k the shortest prefix after which all argmaxes are right
  bool greedy_match = false;  ///< every token is the argmax: greedy decoding gives the answer
};

/// One score an example, in order. No gradient; batches by tokens.
std::vector<Score> score(const Model& model, std::span<const Example> examples,
                         int64_t batch_tokens = 2048);

/// The same under each of the stacked adapters asked for (ascending, without repetition), all in
/// one pass: [adapters][examples]. Throws Error where the model has no such adapter in a stack.
std::vector<std::vector<Score>> score_stacked(const Model& model, std::span<const Example> examples,
                                              std::span<const int64_t> adapters,
                                              int64_t batch_tokens = 2048);

}  // namespace resurface
