// Definitions (kmeng01/memit: experiments/py/eval_utils_counterfact.py, experiments/summarize.py),
// NLL the mean over the target's tokens after the prompt and a space:
//   efficacy, paraphrase  success: share of [NLL(true) > NLL(new)] over rewrite and paraphrase
//                         prompts; magnitude: mean exp(-NLL(new)) - exp(-NLL(true))
//   neighbourhood         the reverse on prompts about other subjects: true should stay likelier
//   accuracy              every token of the wanted target is the argmax
//   score                 harmonic mean of the three successes
//   generation entropy    see eval/field/words.h; mean over the generation prompts of a case
//   reference score       TF-IDF cosine of a case's texts, joined, with the snippets about the new
//                         target, joined; idf from all snippets, as dsets/tfidf_stats.py
// A case's value is the mean over its prompts, an aggregate the mean over cases. Free generation
// on the probed prompts is ours. Where we differ: figures are shares, not percentages; a target is
// encoded apart from its prompt; texts are drawn from the 5 likeliest tokens, as there, but with
// our random numbers; sentence ends (words.h). ROME's essence score (a perplexity) is not computed.
#include "eval/field/counterfact.h"

#include <unicode/normalizer2.h>
#include <unicode/unistr.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"
#include "eval/field/words.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

// The three families of probed prompts.
constexpr std::array kFamilies = {"efficacy", "paraphrase", "neighbourhood"};

struct Case {
  Json id;
  std::string relation, target_id;
  std::array<size_t, 3> probes{};  ///< how many prompts of each family
  std::vector<std::string> generation_prompts;
};

/// Adds a case's probes to the list of all.
Case read_case(const JsonNode& record, std::vector<TargetProbe>& probes) {
  const JsonNode rewrite = record.at("requested_rewrite");
  const auto wanted = text_field(rewrite.at("target_new"), "str");
  const auto truth = text_field(rewrite.at("target_true"), "str");
  auto prompt = text_field(rewrite, "prompt");
  const size_t blank = prompt.find("{}");
  if (blank == std::string::npos) rewrite.at("prompt").wrong("a prompt with {} for the subject");
  prompt.replace(blank, 2, text_field(rewrite, "subject"));
  const std::vector<std::string> prompts[] = {{prompt},
                                              texts_of(record.at("paraphrase_prompts")),
                                              texts_of(record.at("neighborhood_prompts"))};
  Case out;
  out.id = record.has("case_id") ? Json(record.json["case_id"]) : Json();
  for (size_t family = 0; family < 3; ++family) {
    out.probes[family] = prompts[family].size();
    for (const auto& text : prompts[family]) {
      const bool reverse = family == 2;
      probes.push_back({record.where(), text, reverse ? truth : wanted, reverse ? wanted : truth});
    }
  }
  if (record.has("generation_prompts") && !record.at("generation_prompts").array().empty()) {
    out.generation_prompts = texts_of(record.at("generation_prompts"));
  }
  if (rewrite.has("relation_id")) out.relation = rewrite.at("relation_id").string();
  if (rewrite.at("target_new").has("id")) {
    out.target_id = rewrite.at("target_new").at("id").string();
  }
  return out;
}

/// What attribute_snippets.json says about objects: (relation, object) -> texts.
class Snippets {
 public:
  explicit Snippets(const std::filesystem::path& path) {
    const Records records(path);
    std::vector<std::string> all;
    for (size_t i = 0; i < records.size(); ++i) {
      const JsonNode record = records[i];
      auto& joined = texts_[{text_field(record, "relation_id"), text_field(record, "target_id")}];
      const JsonNode samples = record.at("samples");
      for (size_t s = 0; s < samples.array().size(); ++s) {
        all.push_back(samples.at(s).at("text").string());
        joined += (joined.empty() ? "" : " ") + all.back();
      }
    }
    tfidf_.emplace(all);
  }

  /// None when there is no snippet about the object.
  std::optional<double> score(const Case& of, const std::string& text) const {
    const auto found = texts_.find({of.relation, of.target_id});
    if (found == texts_.end() || found->second.empty()) return {};
    return tfidf_->similarity(text, found->second);
  }

 private:
  std::map<std::pair<std::string, std::string>, std::string> texts_;
  std::optional<Tfidf> tfidf_;
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// A generated text as ROME's generate_fast returns it.
std::string tidy(const std::string& text, const std::string& end_of_text) {
  UErrorCode status = U_ZERO_ERROR;
  const auto* form = icu::Normalizer2::getNFKDInstance(status);
  std::string out;
  if (U_SUCCESS(status)) {
    form->normalize(icu::UnicodeString::fromUTF8(text), status).toUTF8String(out);
  }
  if (U_FAILURE(status)) fail("ICU cannot normalise a generated text: {}", u_errorName(status));
  out = replaced(out, "\n\n", " ");
  return end_of_text.empty() ? out : replaced(out, end_of_text, "");
}

/// The texts of each case's generation prompts, prompts included.
std::vector<std::vector<std::string>> generated_texts(const std::vector<Case>& cases,
                                                      const CounterFactSettings& settings,
                                                      const FieldInputs& inputs) {
  std::vector<std::vector<std::string>> texts(cases.size());
  if (settings.generation_tokens == 0) return texts;
  // Places of the prompts, by how many tokens they leave to be said.
  std::map<int64_t, std::vector<std::pair<size_t, size_t>>> by_room;
  const auto encoded = [&](size_t c, size_t p) {
    return inputs.tokenizer.encode(settings.prefix + cases[c].generation_prompts[p]);
  };
  for (size_t c = 0; c < cases.size(); ++c) {
    texts[c] = cases[c].generation_prompts;
    for (size_t p = 0; p < texts[c].size(); ++p) {
      const auto room = settings.generation_tokens - static_cast<int64_t>(encoded(c, p).size());
      if (room > 0) by_room[room].emplace_back(c, p);  // else the prompt alone is the text
    }
  }
  for (const auto& [room, places] : by_room) {
    std::vector<std::vector<int64_t>> prompts;
    for (const auto& [c, p] : places) prompts.push_back(encoded(c, p));
    // Another seed a length: no two prompts draw the same numbers.
    const auto seed = static_cast<uint64_t>(settings.seed) * 1000003 + static_cast<uint64_t>(room);
    const auto said =
        continuations(inputs.model, inputs.tokenizer, prompts, settings,
                      {.new_tokens = room, .top_k = settings.generation_top_k, .seed = seed << 20});
    for (size_t i = 0; i < places.size(); ++i) {
      texts[places[i].first][places[i].second] += said[i].text;
    }
  }
  for (auto& some : texts) {
    for (auto& text : some) text = tidy(text, settings.end_of_text);
  }
  return texts;
}

/// What summarize.py takes of one case and family of prompts, and our free counterparts.
Json family_values(std::span<const TargetResult> results) {
  std::vector<double> accuracy, argmax, match, contains;
  for (const auto& result : results) {
    accuracy.push_back(result.exact);
    argmax.push_back(result.argmax_share);
    if (!result.generated) continue;
    match.push_back(*result.generated_match);
    contains.push_back(*result.contains);
  }
  Json values = {{"success", success(results)},
                 {"magnitude", magnitude(results)},
                 {"accuracy", mean(accuracy)},
                 {"argmax_share", mean(argmax)}};
  if (!match.empty()) {
    values["generated_match"] = mean(match);
    values["contains"] = mean(contains);
  }
  return values;
}

double mean_of(const Json& rows, const std::string& family, const std::string& value) {
  std::vector<double> values;
  for (const auto& row : rows) values.push_back(row.at(family).at(value).get<double>());
  return mean(values);
}

/// Mean over the rows that have the value; null when none has.
Json mean_where_there(const Json& rows, const std::string& value) {
  std::vector<double> values;
  for (const auto& row : rows) {
    if (row.contains(value)) values.push_back(row.at(value).get<double>());
  }
  return values.empty() ? Json() : Json(mean(values));
}

}  // namespace

double success(std::span<const TargetResult> results) {
  std::vector<double> values;
  for (const auto& result : results) values.push_back(result.prefers.value());
  return mean(values);
}

double magnitude(std::span<const TargetResult> results) {
  std::vector<double> values;
  for (const auto& result : results) {
    values.push_back(std::exp(-result.nll) - std::exp(-result.nll_other.value()));
  }
  return mean(values);
}

void CounterFactSettings::check() const {
  if (data.empty()) throw ConfigError("counterfact needs data: counterfact.json");
}

Json run_counterfact(const CounterFactSettings& settings, const FieldInputs& inputs) {
  settings.check();
  const Records records(settings.data, settings.limit);
  std::vector<Case> cases;
  std::vector<TargetProbe> probes;
  for (size_t i = 0; i < records.size(); ++i) cases.push_back(read_case(records[i], probes));
  std::optional<Snippets> snippets;
  if (!settings.snippets.empty()) snippets.emplace(settings.snippets);

  const auto results =
      probe_targets(inputs.model, inputs.tokenizer, probes, settings, settings.new_tokens);
  const auto texts = generated_texts(cases, settings, inputs);
  Json rows = Json::array();
  size_t next = 0;
  for (size_t c = 0; c < cases.size(); ++c) {
    Json row = {{"case_id", cases[c].id}};
    for (size_t family = 0; family < 3; ++family) {
      const auto some = std::span(results).subspan(next, cases[c].probes[family]);
      next += some.size();
      row[kFamilies[family]] = family_values(some);
      row[kFamilies[family]]["probes"] = std::vector(some.begin(), some.end());
    }
    if (!texts[c].empty()) {
      std::vector<double> entropies;
      for (const auto& text : texts[c]) entropies.push_back(generation_entropy(text));
      row["generation_entropy"] = mean(entropies);
      if (snippets) {
        const auto score = snippets->score(cases[c], fmt::format("{}", fmt::join(texts[c], " ")));
        if (score) row["reference_score"] = *score;
      }
      row["texts"] = texts[c];
    }
    rows.push_back(std::move(row));
  }

  Json aggregates = {{"cases", cases.size()}};
  std::vector<double> three;
  for (const auto* family : kFamilies) {
    for (const auto& [value, unused] : rows[0].at(family).items()) {
      if (value != "probes") aggregates[family][value] = mean_of(rows, family, value);
    }
    three.push_back(aggregates[family]["success"].get<double>());
  }
  aggregates["score"] = harmonic_mean(three);
  aggregates["generation_entropy"] = mean_where_there(rows, "generation_entropy");
  aggregates["reference_score"] = mean_where_there(rows, "reference_score");
  return {{"benchmark", "counterfact"},
          {"settings", to_json(settings)},
          {"aggregates", aggregates},
          {"items", rows}};
}

}  // namespace resurface
