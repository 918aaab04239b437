#include "eval/attack/row.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace resurface {

RunKey key_of(const AttackRow& row) {
  return {row.rung, row.reach, row.schedule, row.learning_rate, row.seed, row.fold};
}

std::vector<AttackRow> finished_rows(std::vector<AttackRow> rows) {
  std::set<std::pair<std::string, RunKey>> finished;
  for (const auto& row : rows)
    if (row.final) finished.insert({row.model, key_of(row)});
  std::erase_if(rows, [&](const AttackRow& row) {
    return !finished.contains({row.model, key_of(row)});
  });
  return rows;
}

std::vector<AttackRow> rows_of(std::span<const AttackRow> rows, const std::string& model) {
  std::vector<AttackRow> out;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(out),
               [&](const AttackRow& row) { return row.model == model; });
  return out;
}

void to_json(nlohmann::json& json, const AttackRow& row) {
  json = {{"model", row.model},
          {"rung", row.rung},
          {"reach", row.reach},
          {"schedule", row.schedule},
          {"learning_rate", row.learning_rate},
          {"seed", row.seed},
          {"step", row.step},
          {"tokens", row.tokens},
          {"examples", row.examples},
          {"flops", row.flops},
          {"utility", row.utility},
          {"within_utility", row.within_utility},
          {"item", row.item},
          {"language", row.language},
          {"part", row.part},
          {"logprob_per_token", row.logprob_per_token},
          {"exact_memorization", row.exact_memorization},
          {"extraction_strength", row.extraction_strength},
          {"greedy_match", row.greedy_match},
          {"diverged", row.diverged},
          {"final", row.final}};
  if (row.fold > 0) json["fold"] = row.fold;
}

void from_json(const nlohmann::json& json, AttackRow& row) {
  // A figure that is not finite is null in JSON.
  const auto number = [&](const char* key) {
    const auto& value = json.at(key);
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  };
  json.at("model").get_to(row.model);
  json.at("rung").get_to(row.rung);
  json.at("reach").get_to(row.reach);
  json.at("schedule").get_to(row.schedule);
  row.learning_rate = number("learning_rate");
  json.at("seed").get_to(row.seed);
  row.fold = json.value("fold", int64_t{0});
  json.at("step").get_to(row.step);
  json.at("tokens").get_to(row.tokens);
  json.at("examples").get_to(row.examples);
  row.flops = number("flops");
  row.utility = number("utility");
  json.at("within_utility").get_to(row.within_utility);
  json.at("item").get_to(row.item);
  json.at("language").get_to(row.language);
  json.at("part").get_to(row.part);
  row.logprob_per_token = number("logprob_per_token");
  row.exact_memorization = number("exact_memorization");
  row.extraction_strength = number("extraction_strength");
  row.greedy_match = number("greedy_match");
  json.at("diverged").get_to(row.diverged);
  json.at("final").get_to(row.final);
}

}  // namespace resurface
