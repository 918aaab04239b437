// What an attack measured, a line a (run, step, item, language).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

namespace resurface {

/// One measured (run, step, item, language). The model's own state before any attack is step 0 with
/// rung and reach "none". As JSON, a line with these fields by name. Tokens, examples and FLOPs are
/// those trained on up to the step. Metrics are means over the test questions.
struct AttackRow {
  std::string model, rung = "none", reach = "none", schedule = "none";
  double learning_rate = 0;
  int64_t seed = 0, step = 0, tokens = 0, examples = 0;
  int64_t fold = 0;  ///< of the lines, from 1; 0, and not in the JSON: the run belongs to none
  double flops = 0;
  double utility = 1;
  bool within_utility = true;
  std::string item, language;
  std::string part;  ///< train: in T; test: in V
  double logprob_per_token = 0, exact_memorization = 0, extraction_strength = 0, greedy_match = 0;
  bool diverged = false;  ///< the run ended here: its loss or a gradient was not finite afterwards
  bool final = false;     ///< the run's last row: without one, the run was cut off
};
void to_json(nlohmann::json& json, const AttackRow& row);
void from_json(const nlohmann::json& json, AttackRow& row);

/// A run of one model: what it trained on and how.
struct RunKey {
  std::string rung, reach, schedule;
  double learning_rate = 0;
  int64_t seed = 0, fold = 0;
  auto operator<=>(const RunKey&) const = default;
};
RunKey key_of(const AttackRow& row);

/// The rows of finished runs: drops those of runs without a final row (a file cut off in mid-run).
std::vector<AttackRow> finished_rows(std::vector<AttackRow> rows);

/// Rows of one model out of many.
std::vector<AttackRow> rows_of(std::span<const AttackRow> rows, const std::string& model);

}  // namespace resurface
