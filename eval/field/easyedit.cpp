// Definitions (zjunlp/EasyEdit: easyeditor/evaluate/evaluate.py, evaluate_utils.py, metric
// token_em; editors/editor.py):
//   reliability     share of the target's tokens that are the argmax, teacher-forced, after the
//                   prompt and a space (rewrite_acc)
//   generalisation  the same after the rephrased prompt (rephrase_acc)
//   portability     the same of each related prompt and its answer, by key
//   locality        share of an unrelated answer's places whose argmax is the same before and after
//                   the edit, by key
// A record's value is the mean over a key's prompts, an aggregate the mean over the records that
// have the key. Beside each: all tokens right (`exact`), probabilities, and the free counterpart
// (EasyEdit's vanilla_generation: as many greedy tokens as the target has, compared place by
// place). Where we differ: the free tokens are compared with the target as it is encoded after a
// space, where EasyEdit encodes it without one, so that its first token seldom matches; of several
// right answers the first is taken, as EasyEdit's loaders do; locality without the model before
// the edit is given against the recorded answer only (`argmax_share`).
#include "eval/field/easyedit.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

/// Where a probe belongs.
struct Place {
  size_t record = 0;
  std::string property, key;
};

struct Requests {
  std::vector<Place> places;
  std::vector<TargetProbe> probes;
};

/// The first key that the record has; throws naming the first when it has none.
JsonNode first_of(const JsonNode& record, std::initializer_list<const char*> keys) {
  for (const auto* key : keys) {
    if (record.has(key)) return record.at(key);
  }
  return record.at(*keys.begin());
}

/// One text: itself, or the first of a list (of lists).
std::string first_text(const JsonNode& node) {
  if (!node.json.is_array()) return node.string();
  if (node.json.empty()) node.wrong("at least one text");
  return first_text(node.at(size_t{0}));
}

bool blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

/// Prompts and answers of one key: {"prompt": text or list, "ground_truth": text or list}, or a
/// list of such objects (KnowEdit).
void add_pairs(const JsonNode& node, const Place& place, Requests& out) {
  if (node.json.is_array()) {
    for (size_t i = 0; i < node.json.size(); ++i) add_pairs(node.at(i), place, out);
    return;
  }
  const JsonNode prompt = node.at("prompt"), answer = node.at("ground_truth");
  const auto add = [&](const std::string& text, const std::string& target) {
    if (blank(target)) return;
    out.places.push_back(place);
    out.probes.push_back({node.where(), text, target, ""});
  };
  if (!prompt.json.is_array()) return add(prompt.string(), first_text(answer));
  if (answer.array().size() != prompt.json.size()) {
    answer.wrong(fmt::format("{} answers, one a prompt", prompt.json.size()));
  }
  for (size_t i = 0; i < prompt.json.size(); ++i) {
    add(prompt.at(i).string(), first_text(answer.at(i)));
  }
}

/// False, and nothing asked, when the record's target is blank.
bool add_record(const JsonNode& record, size_t index, Requests& out) {
  const auto target = first_text(first_of(record, {"target_new", "alt", "labels"}));
  if (blank(target)) return false;
  std::string truth;
  for (const auto* key : {"ground_truth", "answers"}) {
    if (truth.empty() && record.has(key)) truth = first_text(record.at(key));
  }
  if (truth == "<|endoftext|>") truth.clear();  // EasyEdit's word for "not known"
  const auto add = [&](const std::string& property, const JsonNode& prompt) {
    for (const auto& text : texts_of(prompt)) {
      out.places.push_back({index, property, ""});
      out.probes.push_back({record.where(), text, target, truth});
    }
  };
  add("reliability", first_of(record, {"prompt", "src", "text"}));
  for (const auto* key : {"rephrase_prompt", "rephrase"}) {
    if (record.has(key)) add("generalisation", record.at(key));
  }
  for (const std::string property : {"portability", "locality"}) {
    if (!record.has(property)) continue;
    const JsonNode group = record.at(property);
    if (group.json.contains("New Question")) {  // EasyEdit's portability files
      out.places.push_back({index, property, "one_hop"});
      out.probes.push_back(
          {record.where(), text_field(group, "New Question"), text_field(group, "New Answer"), ""});
      continue;
    }
    for (const auto& [key, value] : group.object().items()) {
      add_pairs(group.at(key), {index, property, key}, out);
    }
  }
  if (record.has("loc")) {
    out.places.push_back({index, "locality", "neighborhood"});
    out.probes.push_back(
        {record.where(), text_field(record, "loc"), text_field(record, "loc_ans"), ""});
  }
  return true;
}

}  // namespace

void EasyEditSettings::check() const {
  if (data.empty()) throw ConfigError("easyedit needs data: a file of edit requests");
}

Json run_easyedit(const EasyEditSettings& settings, const FieldInputs& inputs) {
  settings.check();
  const Records records(settings.data, settings.limit);
  Requests requests;
  size_t skipped = 0;
  for (size_t i = 0; i < records.size(); ++i) skipped += !add_record(records[i], i, requests);
  const auto ask = [&](const Model& model) {
    return probe_targets(model, inputs.tokenizer, requests.probes, settings, settings.new_tokens);
  };
  const auto results = ask(inputs.model);
  const auto before = inputs.before ? ask(*inputs.before) : std::vector<TargetResult>{};

  Json rows = Json::array();
  for (size_t i = 0; i < records.size(); ++i) {
    rows.push_back({{"index", i}, {"probes", Json::array()}});
  }
  // (property, key) -> name of the value -> record -> values of its probes
  std::map<std::pair<std::string, std::string>,
           std::map<std::string, std::map<size_t, std::vector<double>>>>
      values;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto& [record, property, key] = requests.places[i];
    const TargetResult& result = results[i];
    Json row = result;
    if (property == "locality" && inputs.before) {
      const size_t count = result.ids.size();
      row["unchanged"] = same_share(result.argmax, before[i].argmax, count);
      if (result.generated) {
        row["generated_unchanged"] =
            same_share(result.generated->ids, before[i].generated->ids, count);
      }
    }
    auto& of = values[{property, key}];
    of["probability"][record].push_back(std::exp(-result.nll));
    for (const auto* name : {"argmax_share", "exact", "prefers", "generated_match", "contains",
                             "unchanged", "generated_unchanged"}) {
      if (!row.contains(name)) continue;
      const Json& value = row[name];
      of[name][record].push_back(value.is_boolean() ? value.get<bool>() : value.get<double>());
    }
    row["property"] = property;
    if (!key.empty()) row["key"] = key;
    rows[record]["probes"].push_back(std::move(row));
  }
  Json aggregates = {
      {"records", records.size() - skipped}, {"skipped", skipped},     {"reliability", nullptr},
      {"generalisation", nullptr},           {"portability", nullptr}, {"locality", nullptr}};
  for (const auto& [place, named] : values) {
    const auto& [property, key] = place;
    Json& of = key.empty() ? aggregates[property] : aggregates[property][key];
    for (const auto& [name, by_record] : named) {
      std::vector<double> means;
      for (const auto& [record, list] : by_record) means.push_back(mean(list));
      of[name] = mean(means);
    }
  }
  return {{"benchmark", "easyedit"},
          {"settings", to_json(settings)},
          {"aggregates", aggregates},
          {"items", rows}};
}

}  // namespace resurface
