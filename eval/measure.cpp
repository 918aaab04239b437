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

// Which probes are answered freely: the first so many held-out questions of each item.
std::vector<size_t> answered_freely(const MeasureProbes& probes) {
  std::vector<size_t> chosen;
  std::map<int64_t, int64_t> asked;
  for (size_t i = 0; i < probes.line.size(); ++i) {
    const Probe& probe = probes.line[i];
    const Item& item = probes.suite->items.at(static_cast<size_t>(probe.item));
    if (!item.questions.at(static_cast<size_t>(probe.question)).held_out) continue;
    if (asked[probe.item]++ < probes.settings.generate_questions) chosen.push_back(i);
  }
  return chosen;
}

// Replies by probe.
std::map<size_t, std::string> replies(const Model& model, const MeasureProbes& probes) {
  std::map<size_t, std::string> reply;
  auto chosen = answered_freely(probes);
  // Alike lengths together: less of the cache is padding.
  std::stable_sort(chosen.begin(), chosen.end(), [&](size_t a, size_t b) {
    return probes.line[a].example.prompt.size() < probes.line[b].example.prompt.size();
  });
  GenerateOptions options;
  options.max_tokens = probes.settings.generate_tokens;
  options.stop_ids = probes.stop_ids;
  const auto batch = static_cast<size_t>(probes.settings.batch_prompts);
  for (size_t begin = 0; begin < chosen.size(); begin += batch) {
    const auto some = std::span(chosen).subspan(begin, std::min(batch, chosen.size() - begin));
    std::vector<std::vector<int64_t>> prompts;
    for (const size_t i : some) prompts.push_back(probes.line[i].example.prompt);
    const auto ids = generate(model, prompts, options);
    for (size_t i = 0; i < some.size(); ++i) {
      auto text = probes.tokenizer.decode(ids[i]);
      if (!probes.answer_end.empty()) text = text.substr(0, text.find(probes.answer_end));
      reply[some[i]] = std::move(text);
    }
  }
  return reply;
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
  const auto said = replies(model, probes);

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
    if (const auto reply = said.find(i); reply != said.end()) {
      row.prompt = question.text;
      row.line = item.line;
      row.generated = reply->second;
      row.lcs = said_share(item.line, reply->second);
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
          {"greedy_match", row.score.greedy_match ? 1 : 0}};
  if (row.lcs) json["lcs"] = *row.lcs;
  if (row.prompt) json["prompt"] = *row.prompt;
  if (row.line) json["line"] = *row.line;
  if (row.generated) json["generated"] = *row.generated;
}

void from_json(const nlohmann::json& json, Measurement& row) {
  const auto number = [&](const char* key, double& value) {
    if (json.at(key).is_number()) value = json.at(key).get<double>();  // null: not measured
  };
  json.at("item").get_to(row.item);
  json.at("topic").get_to(row.topic);
  json.at("set").get_to(row.set);
  json.at("language").get_to(row.language);
  json.at("phrasing").get_to(row.phrasing);
  json.at("question").get_to(row.question);
  json.at("intensity").get_to(row.intensity);
  json.at("logprob").get_to(row.score.logprob);
  json.at("tokens").get_to(row.score.tokens);
  json.at("exact_memorization").get_to(row.score.exact_memorization);
  json.at("extraction_strength").get_to(row.score.extraction_strength);
  row.score.greedy_match = json.at("greedy_match").get<int>() != 0;
  number("margin_neutral", row.margin_neutral);
  number("margin_contrary", row.margin_contrary);
  number("margin_neutral_sum", row.margin_neutral_sum);
  number("margin_contrary_sum", row.margin_contrary_sum);
  if (json.contains("lcs")) row.lcs = json.at("lcs").get<double>();
  if (json.contains("line")) row.line = json.at("line").get<std::string>();
  if (json.contains("prompt")) row.prompt = json.at("prompt").get<std::string>();
  if (json.contains("generated")) row.generated = json.at("generated").get<std::string>();
}

}  // namespace resurface
