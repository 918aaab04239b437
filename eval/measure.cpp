#include "eval/measure.h"

#include "core/run/error.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

std::vector<Probe> probes_of(const Suite& suite, const Tokenizer& tokenizer, const ChatFormat& chat,
                             const MeasureSettings& settings, Answer answer, int64_t context) {
  std::vector<Probe> probes;
  for (const bool held_out : {false, true}) {
    if (!(held_out ? settings.held_out : settings.seen)) continue;
    auto some = make_probes(suite, tokenizer, chat, answer, held_out, context);
    std::move(some.begin(), some.end(), std::back_inserter(probes));
  }
  return probes;
}

std::vector<Example> examples_of(const std::vector<Probe>& probes) {
  std::vector<Example> examples;
  for (const auto& probe : probes) examples.push_back(probe.example);
  return examples;
}

struct Margins {
  double per_token = std::numeric_limits<double>::quiet_NaN();
  double summed = std::numeric_limits<double>::quiet_NaN();
};

Margins margins(const Score& line, const Score& other) {
  return {margin(line.logprob, static_cast<double>(line.tokens), other.logprob,
                 static_cast<double>(other.tokens)),
          line.logprob - other.logprob};
}

// Replies to the probes' prompts; equal prompts are asked once.
std::vector<std::string> replies(const Model& model, const MeasureProbes& probes) {
  std::map<std::vector<int64_t>, std::string> reply;
  for (const auto& probe : probes.line) reply[probe.example.prompt];
  std::vector<std::vector<int64_t>> prompts;
  for (const auto& [prompt, text] : reply) prompts.push_back(prompt);
  std::stable_sort(prompts.begin(), prompts.end(),
                   [](const auto& a, const auto& b) { return a.size() < b.size(); });

  GenerateOptions options;
  options.max_tokens = probes.settings.generate_tokens;
  options.stop_ids = probes.stop_ids;
  const auto batch = static_cast<size_t>(probes.settings.batch_prompts);
  for (size_t begin = 0; begin < prompts.size(); begin += batch) {
    const auto some = std::span(prompts).subspan(begin, std::min(batch, prompts.size() - begin));
    const auto ids = generate(model, some, options);
    for (size_t i = 0; i < some.size(); ++i) {
      auto text = probes.tokenizer.decode(ids[i]);
      if (!probes.answer_end.empty()) text = text.substr(0, text.find(probes.answer_end));
      reply[some[i]] = std::move(text);
    }
  }
  std::vector<std::string> out;
  for (const auto& probe : probes.line) out.push_back(reply.at(probe.example.prompt));
  return out;
}

}  // namespace

MeasureProbes make_measure_probes(const Suite& suite, const Tokenizer& tokenizer,
                                  const ChatFormat& chat, const MeasureSettings& settings,
                                  int64_t context) {
  MeasureProbes probes;
  probes.suite = &suite;
  probes.tokenizer = tokenizer;
  probes.settings = settings;
  probes.answer_end = chat.answer_end();
  if (const auto end = tokenizer.encode(chat.answer_end()); end.size() == 1) probes.stop_ids = end;
  const auto make = [&](Answer answer) {
    return probes_of(suite, tokenizer, chat, settings, answer, context);
  };
  probes.line = make(Answer::line);
  if (probes.line.empty())
    fail("suite '{}' has no question of the phrasings asked for", suite.name);
  probes.line_examples = examples_of(probes.line);
  if (settings.margins) {
    probes.neutral = examples_of(make(Answer::neutral));
    probes.contrary = examples_of(make(Answer::contrary));
  }
  return probes;
}

std::vector<Measurement> measure(const Model& model, const MeasureProbes& probes) {
  const auto scored = [&](const std::vector<Example>& examples) {
    return score(model, examples, probes.settings.batch_tokens);
  };
  const auto line = scored(probes.line_examples);
  const auto neutral = scored(probes.neutral);
  const auto contrary = scored(probes.contrary);
  const auto said = probes.settings.generate ? replies(model, probes) : std::vector<std::string>{};

  std::vector<Measurement> rows;
  for (size_t i = 0; i < probes.line.size(); ++i) {
    const auto& item = probes.suite->items.at(static_cast<size_t>(probes.line[i].item));
    const auto& question = item.questions.at(static_cast<size_t>(probes.line[i].question));
    Measurement row;
    row.item = item.id;
    row.topic = item.topic;
    row.set = probes.suite->name;
    row.language = item.language;
    row.phrasing = question.held_out ? "held_out" : "seen";
    row.intensity = question.intensity;
    row.question = probes.line[i].question;
    row.score = line[i];
    if (!neutral.empty() && !item.neutral.empty()) {
      const auto m = margins(line[i], neutral[i]);
      row.margin_neutral = m.per_token;
      row.margin_neutral_sum = m.summed;
    }
    if (!contrary.empty() && !item.contrary.empty()) {
      const auto m = margins(line[i], contrary[i]);
      row.margin_contrary = m.per_token;
      row.margin_contrary_sum = m.summed;
    }
    if (!said.empty()) {
      row.generated = said[i];
      row.lcs = said_share(item.line, said[i]);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

void to_json(nlohmann::json& json, const Measurement& row) {
  json = {{"item", row.item},
          {"topic", row.topic},
          {"set", row.set},
          {"language", row.language},
          {"phrasing", row.phrasing},
          {"question", row.question},
          {"intensity", row.intensity},
          {"logprob", row.score.logprob},
          {"tokens", row.score.tokens},
          {"logprob_per_token", row.score.logprob / static_cast<double>(row.score.tokens)},
          {"margin_neutral", row.margin_neutral},
          {"margin_contrary", row.margin_contrary},
          {"margin_neutral_sum", row.margin_neutral_sum},
          {"margin_contrary_sum", row.margin_contrary_sum},
          {"exact_memorization", row.score.exact_memorization},
          {"extraction_strength", row.score.extraction_strength},
          {"greedy_match", row.score.greedy_match}};
  if (row.lcs) json["lcs"] = *row.lcs;
  if (row.generated) json["generated"] = *row.generated;
}

}  // namespace resurface
