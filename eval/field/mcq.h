// Multiple-choice questions (MMLU, Hendrycks et al. 2021; C-Eval, CMMLU and ARC are published
// alike), scored as lm-evaluation-harness does.
#pragma once

#include <filesystem>

#include "eval/field/probe.h"

namespace resurface {

struct McqSettings : FieldRun {
  std::filesystem::path data, dev;
  int64_t shots = 0;
  std::string score = "letters";
  std::string subject;

  /// Throws ConfigError when files are missing.
  void check() const;

  template <class V>
  void visit(V& v) {
    FieldRun::visit(v);
    v("data", data,
      "records {question, choices, answer, subject}, the answer an index or a letter (cais/mmlu), "
      "or {question, choices: {text, label}, answerKey} (ARC)");
    v("dev", dev, "records of the same kind: worked examples, taken from the question's subject");
    v("shots", shots, "so many worked examples before each question, the first of the file",
      Range::at_least(0));
    v("score", score,
      "letters: the choices stand in the prompt and their letters are compared; texts: the choices "
      "themselves are compared",
      OneOf{{"letters", "texts"}});
    v("subject", subject,
      "of records that name none; with neither, no line says what the questions are about");
  }
};

/// {"aggregates": {"items", "acc", "acc_stderr", "acc_norm"?, "acc_bytes"?, "subjects"?: {"<name>":
/// {"items", "acc", ...}}}, "items": [...]}. acc_norm and acc_bytes: of texts only.
nlohmann::ordered_json run_mcq(const McqSettings& settings, const FieldInputs& inputs);

}  // namespace resurface
