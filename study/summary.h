// From the measurements to what a reader sees: results.jsonl rows, summary.json (docs/output.md)
// and the table on the terminal.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/run/resources.h"
#include "eval/attack/relearn.h"
#include "eval/fit.h"
#include "eval/measure.h"
#include "study/config.h"

namespace resurface {

/// One model of a study with everything that was measured of it.
struct StudyModel {
  std::string name, kind, method, label;
  std::vector<std::string> treated;  ///< languages of the removal's data
  std::optional<Cost> cost;          ///< of making it from the model it starts from
  int64_t examples = 0;
  std::vector<Measurement> before;            ///< forget, retain, innocent, controls
  std::optional<TextFit> fit;                 ///< to ordinary text
  std::vector<nlohmann::ordered_json> field;  ///< results of the study's benchmarks, in their order
  std::vector<AttackRow> attacked;            ///< empty: not attacked
};

/// The rows of results.jsonl, in the order of the models.
std::vector<nlohmann::ordered_json> result_rows(const std::vector<StudyModel>& models);

nlohmann::ordered_json summarize(const StudyConfig& config, const std::vector<StudyModel>& models,
                                 const Split& split);

/// The headline, a line a model; for a terminal.
std::string summary_table(const nlohmann::ordered_json& summary);

}  // namespace resurface
