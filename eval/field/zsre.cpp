// Definitions (kmeng01/rome: dsets/zsre.py, experiments/py/eval_utils_zsre.py):
//   efficacy, paraphrase  share of the target's tokens that are the argmax, teacher-forced, after
//                         the question `src` and its `rephrase`; the target is answers[0]
//   locality              the same of `loc_ans` after `loc` and "?"
//   score                 harmonic mean of the three
// An aggregate is the mean over records. Where we differ: figures are shares; the target's tokens
// are given as they are, not decoded and encoded again for every prefix, which can split UTF-8.
// Ours besides: `prefers`, the target likelier a token than the record's other answer (`alt`
// against answers[0]); free generation; `unchanged`, the share of loc_ans' places whose argmax is
// that of the model before the edit, when there is one. Records whose `alt` is blank are left out
// where that is the target, and counted.
#include "eval/field/zsre.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kParts = {"efficacy", "paraphrase", "locality"};

/// The three probes of a record, in the order of kParts. False, and none, when `alt` is wanted and
/// blank, as some records have it.
bool add_probes(const JsonNode& record, bool alt, std::vector<TargetProbe>& probes) {
  const auto answer = texts_of(record.at("answers"))[0];
  const auto other = record.has("alt") ? record.at("alt").string() : "";
  if (alt && other.empty()) return false;
  for (const auto* prompt : {"src", "rephrase"}) {
    probes.push_back(
        {record.where(), text_field(record, prompt), alt ? other : answer, alt ? answer : other});
  }
  probes.push_back(
      {record.where(), text_field(record, "loc") + "?", text_field(record, "loc_ans"), ""});
  return true;
}

}  // namespace

void ZsreSettings::check() const {
  if (data.empty()) throw ConfigError("zsre needs data: zsre_mend_eval.json");
}

Json run_zsre(const ZsreSettings& settings, const FieldInputs& inputs) {
  settings.check();
  const Records records(settings.data, settings.limit);
  std::vector<TargetProbe> probes;
  std::vector<size_t> used;  // records
  for (size_t i = 0; i < records.size(); ++i) {
    if (add_probes(records[i], settings.target == "alt", probes)) used.push_back(i);
  }
  if (used.empty()) fail("{}: no record has an answer in 'alt'", settings.data.string());
  const auto ask = [&](const Model& model, int64_t new_tokens) {
    return probe_targets(model, inputs.tokenizer, probes, settings, new_tokens);
  };
  const auto results = ask(inputs.model, settings.new_tokens);
  const auto before = inputs.before ? ask(*inputs.before, 0) : std::vector<TargetResult>{};

  Json rows = Json::array();
  std::map<std::string, std::map<std::string, std::vector<double>>> values;
  std::vector<double> unchanged;
  for (size_t i = 0; i < results.size(); ++i) {
    const TargetResult& result = results[i];
    const std::string part = kParts[i % 3];
    if (i % 3 == 0) rows.push_back({{"index", used[i / 3]}});
    rows.back()[part] = result;
    auto& of = values[part];
    of["argmax_share"].push_back(result.argmax_share);
    of["exact"].push_back(result.exact);
    of["probability"].push_back(std::exp(-result.nll));
    if (result.prefers) of["prefers"].push_back(*result.prefers);
    if (result.generated) {
      of["generated_match"].push_back(*result.generated_match);
      of["contains"].push_back(*result.contains);
    }
    if (part == "locality" && !before.empty()) {
      unchanged.push_back(same_share(result.argmax, before[i].argmax, result.ids.size()));
      rows.back()[part]["unchanged"] = unchanged.back();
    }
  }
  Json aggregates = {{"records", used.size()}, {"skipped", records.size() - used.size()}};
  std::vector<double> three;
  for (const auto* part : kParts) {
    for (const auto& [name, list] : values[part]) aggregates[part][name] = mean(list);
    three.push_back(aggregates[part]["argmax_share"].get<double>());
  }
  aggregates["score"] = harmonic_mean(three);
  if (!unchanged.empty()) aggregates["unchanged"] = mean(unchanged);
  return {{"benchmark", "zsre"},
          {"settings", to_json(settings)},
          {"aggregates", aggregates},
          {"items", rows}};
}

}  // namespace resurface
