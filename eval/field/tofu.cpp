// Definitions, with NLL the mean over the answer's tokens, its end included (locuslab/tofu,
// evaluate_util.py and aggregate_eval_stat.py; locuslab/open-unlearning, src/evals/metrics):
//   probability     exp(-NLL(answer)) on forget and retain; on real authors and world facts
//                   normalised by the perturbed answers, P(a) / (P(a) + sum P(perturbed))
//   ROUGE           ROUGE-L recall, stemmed, of the greedy answer against the answer
//   truth ratio r   exp(-mean NLL(perturbed)) / exp(-NLL(paraphrase)); on real authors and world
//                   facts the answer stands for its paraphrase. Forget: mean min(r, 1/r); others:
//                   mean max(0, 1 - r)
//   forget quality  p of the two-sample KS test of the r's against the oracle's
//   model utility   harmonic mean of the three metrics over the three sets that are not forgotten
// Where we differ: the question is asked in the checkpoint's own chat format, its end of answer
// standing for TOFU's EOS; no 1e-10 is added to denominators (open-unlearning); all records are
// used unless `limit` says 300, as TOFU's own script does; an answer may be `new_tokens` long,
// where TOFU stops at 200 tokens with the question (open-unlearning: 200 new ones).
#include "eval/field/tofu.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "eval/field/porter.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"
#include "eval/metrics/metrics.h"
#include "eval/score.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

struct TofuItem {
  std::string question, answer;
  std::vector<int64_t> prompt;
  Example example, paraphrase;
  std::vector<Example> perturbed;
};

/// One of the four sets. Truth is judged on the paraphrase where `paraphrased`.
std::vector<TofuItem> read_set(const std::filesystem::path& path, bool paraphrased,
                               const TofuSettings& settings, const FieldInputs& inputs) {
  const Records records(path, settings.limit);
  std::vector<TofuItem> items;
  for (size_t i = 0; i < records.size(); ++i) {
    const JsonNode record = records[i];
    TofuItem item{text_field(record, "question"), text_field(record, "answer"), {}, {}, {}, {}};
    const auto prompt = settings.prefix + inputs.chat.prompt({{"user", item.question}});
    const auto example = [&](const std::string& answer) {
      return text_example(inputs.model, inputs.tokenizer, prompt,
                          inputs.chat.answer_start() + answer + inputs.chat.answer_end(),
                          record.where());
    };
    item.prompt = inputs.tokenizer.encode(prompt);
    item.example = example(item.answer);
    item.paraphrase =
        paraphrased ? example(text_field(record, "paraphrased_answer")) : item.example;
    for (const auto& text : texts_of(record.at("perturbed_answer"))) {
      item.perturbed.push_back(example(text));
    }
    items.push_back(std::move(item));
  }
  return items;
}

double nll(const Score& score) { return -score.logprob / static_cast<double>(score.tokens); }

struct Truth {
  double paraphrase_nll = 0;
  std::vector<double> perturbed_nll;
  double ratio() const { return truth_ratio(paraphrase_nll, perturbed_nll); }
};

std::vector<Truth> truths(const Model& model, const std::vector<TofuItem>& items,
                          int64_t batch_tokens) {
  std::vector<Example> examples;
  for (const auto& item : items) {
    examples.push_back(item.paraphrase);
    examples.insert(examples.end(), item.perturbed.begin(), item.perturbed.end());
  }
  const auto scores = score(model, examples, batch_tokens);
  std::vector<Truth> out;
  auto next = scores.begin();
  for (const auto& item : items) {
    Truth truth{nll(*next++), {}};
    for (size_t i = 0; i < item.perturbed.size(); ++i) truth.perturbed_nll.push_back(nll(*next++));
    out.push_back(std::move(truth));
  }
  return out;
}

std::vector<double> ratios(const std::vector<Truth>& truths) {
  std::vector<double> out;
  for (const auto& truth : truths) out.push_back(truth.ratio());
  return out;
}

struct SetResult {
  Json aggregates;
  std::vector<double> three;   ///< what the set gives to the model utility
  std::vector<double> ratios;  ///< truth ratios
};

SetResult measure_set(const std::string& name, const std::vector<TofuItem>& items, bool choice,
                      const TofuSettings& settings, const FieldInputs& inputs, Json& rows) {
  std::vector<Example> answers;
  std::vector<std::vector<int64_t>> prompts;
  for (const auto& item : items) {
    answers.push_back(item.example);
    prompts.push_back(item.prompt);
  }
  const auto scores = score(inputs.model, answers, settings.batch_tokens);
  const auto truth = truths(inputs.model, items, settings.batch_tokens);
  const auto said =
      continuations(inputs.model, inputs.tokenizer, prompts, settings,
                    {.new_tokens = settings.new_tokens, .stop = inputs.chat.answer_end()});
  std::vector<double> probability, recall, argmax, extraction;
  for (size_t i = 0; i < items.size(); ++i) {
    const double loss = nll(scores[i]);
    probability.push_back(choice ? choice_probability(loss, truth[i].perturbed_nll)
                                 : std::exp(-loss));
    recall.push_back(rouge_l(stemmed(items[i].answer), stemmed(said[i].text)).recall);
    argmax.push_back(scores[i].exact_memorization);
    extraction.push_back(scores[i].extraction_strength);
    rows.push_back({{"set", name},
                    {"index", i},
                    {"question", items[i].question},
                    {"answer", items[i].answer},
                    {"nll", loss},
                    {"probability", probability.back()},
                    {"nll_paraphrase", truth[i].paraphrase_nll},
                    {"nll_perturbed", truth[i].perturbed_nll},
                    {"truth_ratio", truth[i].ratio()},
                    {"argmax_share", argmax.back()},
                    {"extraction_strength", extraction.back()},
                    {"generated", said[i].text},
                    {"rouge_l_recall", recall.back()}});
  }
  SetResult result;
  result.ratios = ratios(truth);
  const double judged =
      name == "forget" ? forget_truth(result.ratios) : retain_truth(result.ratios);
  result.three = {mean(probability), mean(recall), judged};
  result.aggregates = {{"items", items.size()},
                       {"probability", result.three[0]},
                       {"rouge_l_recall", result.three[1]},
                       {"truth_ratio", result.three[2]},
                       {"argmax_share", mean(argmax)},
                       {"extraction_strength", mean(extraction)}};
  return result;
}

}  // namespace

double truth_ratio(double paraphrase_nll, std::span<const double> perturbed_nll) {
  return std::exp(paraphrase_nll - mean(perturbed_nll));
}

double forget_truth(std::span<const double> ratios) {
  std::vector<double> values;
  for (const double r : ratios) values.push_back(std::min(r, 1 / r));
  return mean(values);
}

double retain_truth(std::span<const double> ratios) {
  std::vector<double> values;
  for (const double r : ratios) values.push_back(std::max(0.0, 1 - r));
  return mean(values);
}

double choice_probability(double nll, std::span<const double> perturbed_nll) {
  double others = 0;  // relative to the answer's, so that nothing underflows
  for (const double other : perturbed_nll) others += std::exp(nll - other);
  return 1 / (1 + others);
}

std::vector<double> read_truth_ratios(const std::filesystem::path& log) {
  const auto json = read_json(log);
  const JsonNode root{json, log.string(), ""};
  std::vector<double> out;
  const auto number = [](const JsonNode& node) {
    if (!node.json.is_number()) node.wrong("a number");
    return node.json.get<double>();
  };
  if (root.has("items")) {  // ours
    const JsonNode items = root.at("items");
    for (size_t i = 0; i < items.array().size(); ++i) {
      const JsonNode item = items.at(i);
      if (item.at("set").string() == "forget") out.push_back(number(item.at("truth_ratio")));
    }
  } else if (root.has("eval_log_forget.json")) {  // TOFU's
    const JsonNode forget = root.at("eval_log_forget.json");
    const JsonNode paraphrased = forget.at("avg_paraphrased_loss");
    const JsonNode perturbed = forget.at("average_perturb_loss");
    for (const auto& [index, loss] : paraphrased.object().items()) {
      const JsonNode list = perturbed.at(index);
      std::vector<double> losses;
      for (size_t i = 0; i < list.array().size(); ++i) losses.push_back(number(list.at(i)));
      out.push_back(truth_ratio(number(paraphrased.at(index)), losses));
    }
  } else {  // open-unlearning's
    const bool old = root.has("forget_Truth_Ratio");
    const JsonNode all =
        root.at(old ? "forget_Truth_Ratio" : "forget_truth_ratio").at("value_by_index");
    for (const auto& [index, entry] : all.object().items()) {
      out.push_back(number(all.at(index).at("score")));
    }
  }
  if (out.empty()) fail("{}: no truth ratios of the forget set", log.string());
  return out;
}

void TofuSettings::check() const {
  if (forget.empty() && retain.empty() && real_authors.empty() && world_facts.empty()) {
    throw ConfigError("tofu needs a file; expected forget, retain, real_authors or world_facts");
  }
}

Json run_tofu(const TofuSettings& settings, const FieldInputs& inputs) {
  settings.check();
  struct Set {
    const char* name;
    const std::filesystem::path& path;
    bool kept, choice;
  };
  const Set sets[] = {{"forget", settings.forget, false, false},
                      {"retain", settings.retain, true, false},
                      {"real_authors", settings.real_authors, true, true},
                      {"world_facts", settings.world_facts, true, true}};
  Json aggregates, rows = Json::array();
  std::vector<double> nine;
  Json quality, statistic;
  for (const Set& set : sets) {
    if (set.path.empty()) continue;
    const auto items = read_set(set.path, !set.choice, settings, inputs);
    const auto result = measure_set(set.name, items, set.choice, settings, inputs, rows);
    aggregates[set.name] = result.aggregates;
    if (set.kept) {
      nine.insert(nine.end(), result.three.begin(), result.three.end());
    } else if (inputs.oracle || !settings.oracle_log.empty()) {
      const auto oracle = settings.oracle_log.empty()
                              ? ratios(truths(*inputs.oracle, items, settings.batch_tokens))
                              : read_truth_ratios(settings.oracle_log);
      const auto test = ks_two_sample(result.ratios, oracle);
      quality = test.p;
      statistic = test.statistic;
    }
  }
  aggregates["model_utility"] = nine.size() == 9 ? Json(harmonic_mean(nine)) : Json();
  aggregates["forget_quality"] = quality;
  aggregates["forget_ks"] = statistic;
  return {{"benchmark", "tofu"},
          {"settings", to_json(settings)},
          {"aggregates", aggregates},
          {"items", rows}};
}

}  // namespace resurface
