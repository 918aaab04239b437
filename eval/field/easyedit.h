// EasyEdit's four properties of an edit (Wang et al. 2023, "EasyEdit"; Yao et al. 2023, "Editing
// large language models: problems, methods, and opportunities").
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

struct EasyEditSettings : FieldRun {
  std::filesystem::path data;
  int64_t new_tokens = 16;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("data", data, "edit requests, KnowEdit's records, or EasyEdit's zsRE and CounterFact files");
    v("new_tokens", new_tokens, "free tokens after each prompt; 0: none", Range::at_least(0));
  }
};

/// {"aggregates": {"reliability", "generalisation": {"argmax_share", "exact", "probability",
/// "prefers"?, "generated_match"?, "contains"?}, "portability": {"<key>": the same},
/// "locality": {"<key>": {"argmax_share", ..., "unchanged"?, "generated_unchanged"?}}},
/// "items": [...]}. A property that no record asks for is null. `unchanged` is EasyEdit's locality
/// and needs the model before the edit.
nlohmann::ordered_json run_easyedit(const EasyEditSettings& settings, const FieldInputs& inputs);

}  // namespace resurface
