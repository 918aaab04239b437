#include "eval/ways_back/attack.h"

#include <cmath>
#include <map>
#include <set>

#include "core/run/error.h"
#include "core/run/nearest.h"
#include "eval/ways_back/adversarial_prefix.h"
#include "eval/ways_back/few_shot.h"
#include "eval/ways_back/ways.h"

namespace resurface {
namespace {

Config settings_of(const WayBack& way) {
  return way.settings.value_or(Config::parse("{}", "defaults"));
}

/// The data's test with its prompts taken from other probes of the same questions.
std::vector<Example> prompts_from(const std::vector<Probe>& probes, const AttackData& data) {
  std::map<std::pair<int64_t, int64_t>, const Probe*> by_question;
  for (const Probe& probe : probes) by_question[{probe.item, probe.question}] = &probe;
  std::vector<Example> test;
  for (const auto& question : data.questions) test.push_back(by_question.at(question)->example);
  return test;
}

std::vector<std::string> held_items(const AttackData& data) {
  std::set<std::string> held;
  for (const TestLine& line : data.tested)
    if (line.held) held.insert(line.item);
  return {held.begin(), held.end()};
}

std::vector<Probe> shots_of(const WayBack& way, const AttackData& data, const Suite& forget,
                            const Tokenizer& tokenizer, const ChatFormat& chat, int64_t context) {
  return few_shot_probes(forget, held_items(data), tokenizer, chat, Answer::line, true, context,
                         read<FewShotSettings>(settings_of(way)));
}

/// The test as this way asks it.
std::vector<Example> prompted(const WayBack& way, const Model& model, const AttackData& data,
                              const WaysContext& c) {
  const int64_t room = model.config().context;
  if (way.way == "few_shot")
    return prompts_from(shots_of(way, data, c.forget, c.tokenizer, c.chat, room), data);
  const auto found = find_prefix(model, c.forget, held_items(data), c.tokenizer, c.chat,
                                 read<PrefixSettings>(settings_of(way)));
  return prompts_from(
      prefix_probes(c.forget, found.text, c.tokenizer, c.chat, Answer::line, true, room), data);
}

bool by_prompt(const std::string& way) { return way == "few_shot" || way == "adversarial_prefix"; }

}  // namespace

WayBack read_way_back(const Config& entry) {
  entry.allow_only({"way", "name", "settings"});
  WayBack way;
  way.way = entry["way"].string();
  way.name = entry.has("name") ? entry["name"].string() : way.way;
  way.settings = entry.find("settings");
  std::vector<std::string> names = {"few_shot", "adversarial_prefix"};
  for (const auto& known : weight_ways()) names.push_back(known.name);
  if (std::find(names.begin(), names.end(), way.way) == names.end()) {
    entry["way"].fail(fmt::format("unknown way back '{}'; did you mean '{}'? valid: {}", way.way,
                                  nearest(way.way, names), fmt::join(names, ", ")));
  }
  if (way.way == "few_shot") {
    auto settings = read<FewShotSettings>(settings_of(way));
    way.resolved = to_json(settings);
  } else if (way.way == "adversarial_prefix") {
    auto settings = read<PrefixSettings>(settings_of(way));
    way.resolved = to_json(settings);
  } else {
    way.resolved = weight_way(way.way).resolve(settings_of(way));
  }
  return way;
}

void check_ways(const std::vector<WayBack>& ways, const AttackData& data, const Suite& forget,
                const Tokenizer& tokenizer, const ChatFormat& chat, int64_t context) {
  for (const WayBack& way : ways)
    if (way.way == "few_shot") shots_of(way, data, forget, tokenizer, chat, context);
}

std::vector<AttackRow> ways_back(Model& model, const std::string& name, const AttackData& data,
                                 const AttackSettings& attack, const std::vector<WayBack>& ways,
                                 const WaysContext& context) {
  const auto every = [](const TestLine&) { return true; };
  const auto before = score_lines(model, data, every, attack.score_tokens);
  std::vector<AttackRow> rows;
  const auto keep = [&](const LineScores& scores, const std::string& rung, const std::string& reach,
                        int64_t step) {
    const double utility = std::exp(scores.retain_logprob - before.retain_logprob);
    for (size_t i = 0; i < data.tested.size(); ++i) {
      AttackRow row = scores.lines[i];
      row.model = name;
      row.rung = rung;
      row.reach = reach;
      row.step = step;
      row.utility = utility;
      row.within_utility = utility >= attack.utility_bound;
      row.item = data.tested[i].item;
      row.language = data.tested[i].language;
      row.part = data.tested[i].held ? "train" : "test";
      row.final = i + 1 == data.tested.size();
      rows.push_back(std::move(row));
    }
  };
  keep(before, "none", "none", 0);
  for (const WayBack& way : ways) {
    if (by_prompt(way.way)) {
      AttackData asked = data;
      asked.test = prompted(way, model, data, context);
      keep(score_lines(model, asked, every, attack.score_tokens), way.name, "prompt", 1);
      continue;
    }
    const WeightWay& known = weight_way(way.way);
    if (known.needs_reference && context.reference == nullptr) {
      throw ConfigError(
          fmt::format("way back '{}' needs a model to compare with, and there is none", way.name));
    }
    Model changed = model.clone();
    known.run(settings_of(way), changed, context.reference);
    keep(score_lines(changed, data, every, attack.score_tokens), way.name, "weights", 1);
  }
  return rows;
}

}  // namespace resurface
