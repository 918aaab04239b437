// Definitions (jaechan-repo/muse_bench: metrics/verbmem.py, knowmem.py, privleak.py, eval.py):
//   verbmem   ROUGE-L F1 (no stemming) of the greedy continuation of a prompt, 128 tokens, against
//             the first 128 tokens of the true one
//   knowmem   ROUGE-L F1 of the greedy answer, 32 tokens, cut before a blank line or "Question",
//             to worked examples and the question: "Question: ...\nAnswer: "
//   privleak  of the AUC of Min-40% between forget set and holdout; see privacy_leak
// Each stands beside its teacher-forced and probability counterparts, which are ours. Figures are
// shares, where MUSE prints percentages (privleak is in percent in both). Where we differ: texts
// are decoded as they are, without transformers' clean-up of spaces before punctuation; a BOS token
// of the tokenizer is no part of the 128 tokens; Min-K% takes at least one token; texts beyond the
// model's context are cut there. open-unlearning adds 1e-10 to the denominator of privleak.
#include "eval/field/muse.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "eval/field/membership.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

/// A prompt with what should follow it.
struct Passage {
  std::string prompt, truth;
  Example example;
};

/// Scores, continues and compares passages: the part that verbmem and knowmem share.
Json compare(const std::string& part, const std::vector<Passage>& passages, int64_t new_tokens,
             const std::vector<std::string>& cuts, const MuseSettings& settings,
             const FieldInputs& inputs, Json& rows) {
  std::vector<Example> examples;
  std::vector<std::vector<int64_t>> prompts;
  for (const auto& passage : passages) {
    examples.push_back(passage.example);
    prompts.push_back(passage.example.prompt);
  }
  const auto scores = token_scores(inputs.model, examples, settings.batch_tokens);
  const auto said =
      continuations(inputs.model, inputs.tokenizer, prompts, settings, {.new_tokens = new_tokens});
  std::vector<double> f1, recall, argmax, probability;
  for (size_t i = 0; i < passages.size(); ++i) {
    std::string text = said[i].text;
    for (const auto& cut : cuts) text = text.substr(0, text.find(cut));
    const RougeL rouge = rouge_l(passages[i].truth, text);
    f1.push_back(rouge.f1);
    recall.push_back(rouge.recall);
    const auto& answer = examples[i].answer;
    argmax.push_back(same_share(scores[i].argmax, answer, answer.size()));
    probability.push_back(std::exp(-scores[i].nll()));
    rows.push_back({{"part", part},
                    {"index", i},
                    {"prompt", passages[i].prompt},
                    {"truth", passages[i].truth},
                    {"generated", text},
                    {"rouge_l_f1", rouge.f1},
                    {"rouge_l_recall", rouge.recall},
                    {"argmax_share", argmax.back()},
                    {"nll", scores[i].nll()}});
  }
  return {{"items", passages.size()},
          {"rouge_l_f1", mean(f1)},
          {"rouge_l_recall", mean(recall)},
          {"argmax_share", mean(argmax)},
          {"probability", mean(probability)}};
}

Json verbmem(const MuseSettings& settings, const FieldInputs& inputs, Json& rows) {
  const Records records(settings.verbmem, settings.limit);
  std::vector<Passage> passages;
  for (size_t i = 0; i < records.size(); ++i) {
    const JsonNode record = records[i];
    auto ids = inputs.tokenizer.encode(text_field(record, "gt"));
    if (ids.size() > static_cast<size_t>(settings.verbmem_tokens)) {
      ids.resize(static_cast<size_t>(settings.verbmem_tokens));
    }
    Passage passage{text_field(record, "prompt"), inputs.tokenizer.decode(ids), {}};
    passage.example.prompt = inputs.tokenizer.encode(settings.prefix + passage.prompt);
    passage.example.answer = std::move(ids);
    const int64_t tokens =
        static_cast<int64_t>(passage.example.prompt.size()) + settings.verbmem_tokens;
    if (tokens > inputs.model.config().context) {
      fail("{}: the prompt and {} tokens after it are {}, the model's context is {}",
           record.where(), settings.verbmem_tokens, tokens, inputs.model.config().context);
    }
    passages.push_back(std::move(passage));
  }
  return compare("verbmem", passages, settings.verbmem_tokens, {}, settings, inputs, rows);
}

Json knowmem(const std::string& part, const std::filesystem::path& questions,
             const std::filesystem::path& worked, const MuseSettings& settings,
             const FieldInputs& inputs, Json& rows) {
  std::string shots;
  if (!worked.empty()) {
    const Records records(worked);
    for (size_t i = 0; i < records.size(); ++i) {
      shots += fmt::format("Question: {}\nAnswer: {}\n\n", text_field(records[i], "question"),
                           text_field(records[i], "answer"));
    }
  }
  const Records records(questions, settings.limit);
  std::vector<Passage> passages;
  for (size_t i = 0; i < records.size(); ++i) {
    const JsonNode record = records[i];
    const auto asked = fmt::format("Question: {}\nAnswer: ", text_field(record, "question"));
    Passage passage{asked, text_field(record, "answer"), {}};
    passage.example = text_example(inputs.model, inputs.tokenizer, settings.prefix + shots + asked,
                                   passage.truth, record.where());
    passages.push_back(std::move(passage));
  }
  return compare(part, passages, settings.knowmem_tokens, {"\n\n", "\nQuestion", "Question:"},
                 settings, inputs, rows);
}

Json privleak(const MuseSettings& settings, const FieldInputs& inputs, Json& rows) {
  const auto forget = read_texts(settings.privleak_forget, settings.limit);
  const auto holdout = read_texts(settings.privleak_holdout, settings.limit);
  int64_t truncated = 0;
  const auto area = [&](const Model& model, Json* out) {
    std::vector<double> sides[2];
    for (const bool member : {true, false}) {
      const auto& path = member ? settings.privleak_forget : settings.privleak_holdout;
      const auto scores = membership_scores(model, inputs.tokenizer, member ? forget : holdout,
                                            settings.k, settings, nullptr, path.string());
      for (size_t i = 0; i < scores.size(); ++i) {
        sides[member].push_back(scores[i].min_k);
        if (!out) continue;
        truncated += scores[i].truncated;
        out->push_back({{"part", "privleak"},
                        {"index", i},
                        {"set", member ? "forget" : "holdout"},
                        {"min_k", scores[i].min_k}});
      }
    }
    return auc(sides[true], sides[false]);
  };
  const double ours = area(inputs.model, &rows);
  Json result = {{"forget", forget.size()}, {"holdout", holdout.size()},
                 {"truncated", truncated},  {"auc", ours},
                 {"oracle_auc", nullptr},   {"privleak", nullptr}};
  if (settings.oracle_auc || inputs.oracle) {
    const double oracle =
        settings.oracle_auc ? *settings.oracle_auc : area(*inputs.oracle, nullptr);
    result["oracle_auc"] = oracle;
    result["privleak"] = privacy_leak(ours, oracle);
  }
  return result;
}

}  // namespace

double privacy_leak(double auc, double oracle_auc) {
  if (oracle_auc >= 1) fail("privacy leakage is undefined against an oracle AUC of {}", oracle_auc);
  return ((1 - auc) - (1 - oracle_auc)) / (1 - oracle_auc) * 100;
}

void MuseSettings::check() const {
  if (privleak_forget.empty() != privleak_holdout.empty()) {
    throw ConfigError("muse: privleak_forget and privleak_holdout need each other");
  }
  if (verbmem.empty() && knowmem_forget.empty() && knowmem_retain.empty() &&
      privleak_forget.empty()) {
    throw ConfigError(
        "muse needs a file; expected verbmem, knowmem_forget, knowmem_retain or privleak_forget "
        "and privleak_holdout");
  }
}

Json run_muse(const MuseSettings& settings, const FieldInputs& inputs) {
  settings.check();
  Json aggregates = Json::object(), rows = Json::array();
  if (!settings.verbmem.empty()) aggregates["verbmem"] = verbmem(settings, inputs, rows);
  if (!settings.knowmem_forget.empty()) {
    aggregates["knowmem_forget"] = knowmem("knowmem_forget", settings.knowmem_forget,
                                           settings.knowmem_forget_icl, settings, inputs, rows);
  }
  if (!settings.knowmem_retain.empty()) {
    aggregates["knowmem_retain"] = knowmem("knowmem_retain", settings.knowmem_retain,
                                           settings.knowmem_retain_icl, settings, inputs, rows);
  }
  if (!settings.privleak_forget.empty()) aggregates["privleak"] = privleak(settings, inputs, rows);
  return {{"benchmark", "muse"},
          {"settings", to_json(settings)},
          {"aggregates", aggregates},
          {"items", rows}};
}

}  // namespace resurface
