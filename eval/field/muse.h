// MUSE (Shi et al. 2024, "MUSE: Machine Unlearning Six-Way Evaluation for Language Models",
// section 3): verbatim memorisation, knowledge memorisation, privacy leakage.
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

/// ((1 - AUC) - (1 - AUC_oracle)) / (1 - AUC_oracle) x 100: 0 as the oracle, below 0 where members
/// are still told apart better than there (under-unlearning), above 0 where they stick out as
/// unlikely (over-unlearning). Throws Error where AUC_oracle is 1.
double privacy_leak(double auc, double oracle_auc);

struct MuseSettings : FieldRun {
  std::filesystem::path verbmem;
  std::filesystem::path knowmem_forget, knowmem_forget_icl, knowmem_retain, knowmem_retain_icl;
  std::filesystem::path privleak_forget, privleak_holdout;
  std::optional<double> oracle_auc;
  double k = 0.4;
  int64_t verbmem_tokens = 128;
  int64_t knowmem_tokens = 32;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("verbmem", verbmem, "verbmem/forget.json: prompt, gt");
    v("knowmem_forget", knowmem_forget, "knowmem/forget_qa.json: question, answer");
    v("knowmem_forget_icl", knowmem_forget_icl, "worked examples before those questions");
    v("knowmem_retain", knowmem_retain, "knowmem/retain_qa.json");
    v("knowmem_retain_icl", knowmem_retain_icl, "worked examples before those questions");
    v("privleak_forget", privleak_forget, "privleak/forget.json: texts that were to be forgotten");
    v("privleak_holdout", privleak_holdout, "privleak/holdout.json: texts never trained on");
    v("oracle_auc", oracle_auc, "the oracle's AUC, in place of an oracle model",
      Range::between(0, 1));
    v("k", k, "share of the least likely tokens that Min-K% looks at", Range::between(0, 1));
    v("verbmem_tokens", verbmem_tokens, "tokens that are continued and compared",
      Range::at_least(1));
    v("knowmem_tokens", knowmem_tokens, "longest free answer", Range::at_least(1));
  }
};

/// {"aggregates": {"verbmem", "knowmem_forget", "knowmem_retain", "privleak"}, "items": [...]};
/// parts whose files are not given are absent.
nlohmann::ordered_json run_muse(const MuseSettings& settings, const FieldInputs& inputs);

}  // namespace resurface
