// TOFU (Maini et al. 2024, "TOFU: A Task of Fictitious Unlearning for LLMs", section 2.2).
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

/// r = P(perturbed)/P(paraphrase), each exp(-NLL a token), the perturbed answers averaged in NLL.
double truth_ratio(double paraphrase_nll, std::span<const double> perturbed_nll);
/// mean min(r, 1/r), of the forget set: 1 where truth and falsehood are equally likely.
double forget_truth(std::span<const double> ratios);
/// mean max(0, 1 - r), of what is to be kept: 1 where falsehood is never likely.
double retain_truth(std::span<const double> ratios);
/// P(a) / (P(a) + sum P(perturbed)), each exp(-NLL a token).
double choice_probability(double nll, std::span<const double> perturbed_nll);

struct TofuSettings : FieldRun {
  std::filesystem::path forget, retain, real_authors, world_facts;
  std::filesystem::path oracle_log;
  int64_t new_tokens = 200;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("forget", forget, "forget01|05|10_perturbed.json");
    v("retain", retain, "retain_perturbed.json");
    v("real_authors", real_authors, "real_authors_perturbed.json");
    v("world_facts", world_facts, "world_facts_perturbed.json");
    v("oracle_log", oracle_log,
      "the oracle's figures, in place of an oracle model: our output, TOFU's "
      "eval_log_aggregated.json or open-unlearning's TOFU_EVAL.json");
    v("new_tokens", new_tokens, "longest free answer", Range::at_least(1));
  }
};

/// Truth ratios of the forget set from a log. Throws Error naming the file when it holds none.
std::vector<double> read_truth_ratios(const std::filesystem::path& log);

/// {"aggregates": {"<set>": {"probability", "rouge_l_recall", "truth_ratio", "argmax_share",
/// "extraction_strength"}, "model_utility", "forget_quality", "forget_ks"}, "items": [...]}.
/// Aggregates that files or models are missing for are null.
nlohmann::ordered_json run_tofu(const TofuSettings& settings, const FieldInputs& inputs);

}  // namespace resurface
