#include "eval/measure.h"

#include <set>

#include "core/model/generate.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

std::vector<Probe> plain_probes(const Suite& suite, const Tokenizer& tokenizer,
                                const ChatFormat& chat, const MeasureSettings& settings,
                                Answer answer, int64_t context) {
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
std::vector<size_t> answered_freely(const MeasureProbes& probes, const MeasureProbes::Way& way) {
  std::vector<size_t> chosen;
  std::map<int64_t, int64_t> asked;
  for (size_t i = 0; i < way.line.size(); ++i) {
    const Probe& probe = way.line[i];
    const Item& item = probes.suite->items.at(static_cast<size_t>(probe.item));
    if (!item.questions.at(static_cast<size_t>(probe.question)).held_out) continue;
    if (asked[probe.item]++ < probes.settings.generate_questions) chosen.push_back(i);
  }
  return chosen;
}

/// Greedy replies to the prompts, in their order, without the end of an answer.
std::vector<std::string> replies(const Model& model, const MeasureProbes& probes,
                                 const std::vector<std::vector<int64_t>>& prompts) {
  // Alike lengths together: less of the cache is padding.
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prompts[a].size() < prompts[b].size(); });
  GenerateOptions options;
  options.max_tokens = probes.settings.generate_tokens;
  options.stop_ids = probes.stop_ids;
  std::vector<std::string> texts(prompts.size());
  const auto batch = static_cast<size_t>(probes.settings.batch_prompts);
  for (size_t begin = 0; begin < order.size(); begin += batch) {
    const auto some = std::span(order).subspan(begin, std::min(batch, order.size() - begin));
    std::vector<std::vector<int64_t>> asked;
    for (const size_t i : some) asked.push_back(prompts[i]);
    const auto ids = generate(model, asked, options);
    for (size_t i = 0; i < some.size(); ++i) {
      auto text = probes.tokenizer.decode(ids[i]);
      const auto& end = probes.chat.answer_end();
      texts[some[i]] = end.empty() ? text : text.substr(0, text.find(end));
    }
  }
  return texts;
}

std::vector<std::string> phrases_of(const MeasureProbes& probes, const Item& item) {
  std::vector<std::string> phrases;
  for (const StockPhrase& phrase : probes.phrases) {
    if (std::find(phrase.items.begin(), phrase.items.end(), item.id) != phrase.items.end())
      phrases.push_back(phrase.phrase);
  }
  return phrases;
}

void measure_way(const Model& model, const MeasureProbes& probes, const MeasureProbes::Way& way,
                 std::vector<Measurement>& rows) {
  const auto scored = [&](const std::vector<Example>& examples) {
    return score(model, examples, probes.settings.batch_tokens);
  };
  const auto line = scored(way.line_examples);
  const auto neutral = scored(way.neutral);
  const auto contrary = scored(way.contrary);
  const size_t first = rows.size();
  for (size_t i = 0; i < way.line.size(); ++i) {
    const auto& item = probes.suite->items.at(static_cast<size_t>(way.line[i].item));
    const auto& question = item.questions.at(static_cast<size_t>(way.line[i].question));
    Measurement row;
    row.item = item.id;
    row.topic = item.topic;
    row.set = probes.suite->name;
    row.probe = way.probe;
    row.language = item.language;
    row.phrasing = question.held_out ? "held_out" : "seen";
    row.intensity = question.intensity;
    row.question = way.line[i].question;
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
    rows.push_back(std::move(row));
  }

  const auto chosen = answered_freely(probes, way);
  std::vector<std::vector<int64_t>> prompts;
  for (const size_t i : chosen) prompts.push_back(way.line[i].example.prompt);
  const auto texts = replies(model, probes, prompts);
  for (size_t c = 0; c < chosen.size(); ++c) {
    const auto& probe = way.line[chosen[c]];
    const auto& item = probes.suite->items.at(static_cast<size_t>(probe.item));
    Measurement& row = rows[first + chosen[c]];
    row.prompt = item.questions.at(static_cast<size_t>(probe.question)).text;
    row.line = item.line;
    row.reply = read_reply(texts[c], item.line, phrases_of(probes, item), item.language);
  }
}

}  // namespace

std::vector<OtherQuestion> load_other_questions(const std::filesystem::path& path) {
  std::vector<OtherQuestion> all;
  for_each_json_line(path, [&](const nlohmann::json& row, int64_t) {
    try {
      all.push_back({.id = row.at("id").get<std::string>(),
                     .topic = row.at(row.contains("kind") ? "kind" : "topic").get<std::string>(),
                     .language = row.at("language").get<std::string>(),
                     .text = row.at("question").get<std::string>()});
    } catch (const nlohmann::json::exception&) {
      fail("a line has \"id\", \"language\", \"question\" and \"topic\" or \"kind\", all texts");
    }
  });
  return all;
}

MeasureProbes make_measure_probes(const Suite& suite, const Tokenizer& tokenizer,
                                  const ChatFormat& chat, const MeasureSettings& settings,
                                  int64_t context, const ProbeTexts& texts,
                                  std::vector<StockPhrase> phrases) {
  MeasureProbes probes{.suite = &suite,
                       .tokenizer = tokenizer,
                       .chat = chat,
                       .settings = settings,
                       .stop_ids = {},
                       .ways = {},
                       .phrases = std::move(phrases)};
  if (const auto end = tokenizer.encode(chat.answer_end()); end.size() == 1) probes.stop_ids = end;
  const auto make = [&](Answer answer) {
    return plain_probes(suite, tokenizer, chat, settings, answer, context);
  };
  MeasureProbes::Way plain{.probe = "plain", .line = make(Answer::line)};
  if (plain.line.empty()) fail("suite '{}' has no question of the phrasings asked for", suite.name);
  plain.line_examples = examples_of(plain.line);
  if (settings.margins) {
    plain.neutral = examples_of(make(Answer::neutral));
    plain.contrary = examples_of(make(Answer::contrary));
  }
  probes.ways.push_back(std::move(plain));
  for (const auto& kind : settings.probes) {
    MeasureProbes::Way way{.probe = kind,
                           .line = probes_of_kind(kind, suite, tokenizer, chat, texts,
                                                  settings.probe_questions, context)};
    if (way.line.empty()) fail("probe '{}': suite '{}' has nothing to ask so", kind, suite.name);
    way.line_examples = examples_of(way.line);
    probes.ways.push_back(std::move(way));
  }
  return probes;
}

std::vector<Measurement> measure(const Model& model, const MeasureProbes& probes) {
  std::vector<Measurement> rows;
  for (const auto& way : probes.ways) measure_way(model, probes, way, rows);
  return rows;
}

std::vector<Measurement> measure_others(const Model& model, const MeasureProbes& probes,
                                        const std::vector<OtherQuestion>& questions,
                                        const std::string& set) {
  std::vector<std::string> forbidden;
  for (const Item& item : probes.suite->items) forbidden.push_back(item.line);
  for (const StockPhrase& phrase : probes.phrases) forbidden.push_back(phrase.phrase);
  std::vector<std::vector<int64_t>> prompts;
  for (const auto& question : questions)
    prompts.push_back(probes.tokenizer.encode(probes.chat.prompt({{"user", question.text}})));
  const auto texts = replies(model, probes, prompts);
  std::vector<Measurement> rows;
  for (size_t i = 0; i < questions.size(); ++i) {
    Measurement row;
    row.item = questions[i].id;
    row.topic = questions[i].topic;
    row.set = set;
    row.language = questions[i].language;
    row.phrasing = "held_out";
    row.intensity = "neutral";
    row.prompt = questions[i].text;
    row.reply = read_innocent_reply(texts[i], forbidden, questions[i].language);
    rows.push_back(std::move(row));
  }
  return rows;
}

void to_json(nlohmann::json& json, const Measurement& row) {
  json = {{"item", row.item},         {"topic", row.topic},         {"set", row.set},
          {"probe", row.probe},       {"language", row.language},   {"phrasing", row.phrasing},
          {"question", row.question}, {"intensity", row.intensity}, {"tokens", row.score.tokens}};
  const bool scored = row.score.tokens > 0;
  const auto figure = [&](const char* key, double value) {
    json[key] = scored ? nlohmann::json(value) : nlohmann::json();
  };
  figure("logprob", row.score.logprob);
  figure("logprob_per_token",
         scored ? row.score.logprob / static_cast<double>(row.score.tokens) : 0);
  figure("margin_neutral", row.margin_neutral);
  figure("margin_contrary", row.margin_contrary);
  figure("margin_neutral_sum", row.margin_neutral_sum);
  figure("margin_contrary_sum", row.margin_contrary_sum);
  figure("exact_memorization", row.score.exact_memorization);
  figure("extraction_strength", row.score.extraction_strength);
  json["greedy_match"] = scored ? nlohmann::json(row.score.greedy_match ? 1 : 0) : nlohmann::json();
  if (!row.reply) return;
  json["prompt"] = row.prompt;
  json["line"] = row.line;
  json.update(nlohmann::json(*row.reply));
}

void from_json(const nlohmann::json& json, Measurement& row) {
  const auto number = [&](const char* key, double& value) {
    if (json.at(key).is_number()) value = json.at(key).get<double>();  // null: not measured
  };
  json.at("item").get_to(row.item);
  json.at("topic").get_to(row.topic);
  json.at("set").get_to(row.set);
  json.at("probe").get_to(row.probe);
  json.at("language").get_to(row.language);
  json.at("phrasing").get_to(row.phrasing);
  json.at("question").get_to(row.question);
  json.at("intensity").get_to(row.intensity);
  json.at("tokens").get_to(row.score.tokens);
  number("logprob", row.score.logprob);
  number("exact_memorization", row.score.exact_memorization);
  number("extraction_strength", row.score.extraction_strength);
  if (json.at("greedy_match").is_number())
    row.score.greedy_match = json.at("greedy_match").get<int>() != 0;
  number("margin_neutral", row.margin_neutral);
  number("margin_contrary", row.margin_contrary);
  number("margin_neutral_sum", row.margin_neutral_sum);
  number("margin_contrary_sum", row.margin_contrary_sum);
  if (!json.contains("generated")) return;
  row.reply = json.get<Reply>();
  json.at("prompt").get_to(row.prompt);
  json.at("line").get_to(row.line);
}

}  // namespace resurface
