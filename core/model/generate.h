// Batched generation with a key-value cache.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "core/model/model.h"

namespace resurface {

/// How to continue a prompt, in the order in which the settings act (as in transformers).
struct GenerateOptions {
  int64_t max_tokens = 128;
  double repetition_penalty = 1;  ///< tokens of prompt and answer count so many times less; 1: off
  double temperature = 0;         ///< 0: greedy, and the settings below do nothing
  int64_t top_k = 0;              ///< 0: off
  double top_p = 1;               ///< 1: off
  double min_p = 0;               ///< of the likeliest token's probability; 0: off
  uint64_t seed = 0;
  bool logprobs = false;          ///< fill Generated::logprob
  std::vector<int64_t> stop_ids;  ///< generation ends before any of these
  /// Whether an answer ends with what it has got so far; called after each token, never after a
  /// stop id.
  std::function<bool(const std::vector<int64_t>& ids)> stops = {};
};

struct Generated {
  std::vector<int64_t> ids;     ///< stop ids not included
  std::vector<double> logprob;  ///< of each, under the model's own distribution, where asked
  bool stopped = false;         ///< by a stop id or `stops`; else it ran out of room
};

/// Continues each prompt; what one draws does not depend on its neighbours. Throws Error when a
/// prompt leaves no room for an answer.
std::vector<Generated> continue_prompts(const Model& model,
                                        std::span<const std::vector<int64_t>> prompts,
                                        const GenerateOptions& options);

/// The new ids alone.
std::vector<std::vector<int64_t>> generate(const Model& model,
                                           std::span<const std::vector<int64_t>> prompts,
                                           const GenerateOptions& options);

/// The end tokens that a checkpoint's generation_config.json and config.json name.
std::vector<int64_t> end_ids(const std::filesystem::path& folder);

/// What a checkpoint's generation_config.json asks for, in place of what `options` say, and its end
/// tokens. Throws Error for a way of generating that is not implemented
/// (beams, contrastive search, ...), naming file and key.
void read_generation_config(const std::filesystem::path& folder, GenerateOptions& options);

}  // namespace resurface
