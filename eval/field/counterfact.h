// CounterFact (Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 3.4).
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

/// Share of prompts where the wanted target is the likelier: NLL < NLL of the other. Of results
/// that have an other.
double success(std::span<const TargetResult> results);
/// mean [exp(-NLL) - exp(-NLL of the other)], NLL a token.
double magnitude(std::span<const TargetResult> results);

struct CounterFactSettings : FieldRun {
  std::filesystem::path data, snippets;
  int64_t new_tokens = 16;
  int64_t generation_tokens = 100;
  int64_t generation_top_k = 5;
  int64_t seed = 0;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("data", data, "counterfact.json or multi_counterfact.json");
    v("snippets", snippets, "attribute_snippets.json, for the reference score");
    v("new_tokens", new_tokens, "free tokens after each probed prompt; 0: none",
      Range::at_least(0));
    v("generation_tokens", generation_tokens,
      "length of the texts whose entropy is taken, prompt included; 0: none", Range::at_least(0));
    v("generation_top_k", generation_top_k, "their tokens are drawn among so many; 1: greedy",
      Range::at_least(1));
    v("seed", seed, "of those draws", Range::at_least(0));
  }
};

/// {"aggregates": {"efficacy", "paraphrase", "neighbourhood": {"success", "magnitude", "accuracy",
/// "argmax_share", "generated_match"?, "contains"?}, "score", "generation_entropy"?,
/// "reference_score"?}, "items": [...]}. All shares, 0 to 1; entropy in bits.
nlohmann::ordered_json run_counterfact(const CounterFactSettings& settings,
                                       const FieldInputs& inputs);

}  // namespace resurface
