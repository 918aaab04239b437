// zsRE question answering (Levy et al. 2017; Mitchell et al. 2022, MEND), as ROME and MEMIT score
// it.
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

struct ZsreSettings : FieldRun {
  std::filesystem::path data;
  std::string target = "answers";
  int64_t new_tokens = 16;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("data", data, "zsre_mend_eval.json");
    v("target", target,
      "what the edit taught: the first of `answers` (ROME, MEMIT) or `alt` (MEND)",
      OneOf{{"answers", "alt"}});
    v("new_tokens", new_tokens, "free tokens after each question; 0: none", Range::at_least(0));
  }
};

/// {"aggregates": {"efficacy", "paraphrase", "locality": {"argmax_share", "exact", "probability",
/// "prefers"?, "generated_match"?, "contains"?}, "score", "unchanged"?}, "items": [...]}.
nlohmann::ordered_json run_zsre(const ZsreSettings& settings, const FieldInputs& inputs);

}  // namespace resurface
