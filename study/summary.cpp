#include "study/summary.h"

#include <cmath>
#include <ctime>
#include <set>

#include "core/run/error.h"
#include "eval/bootstrap.h"
#include "eval/detectors/calibration.h"
#include "study/attack_summary.h"
#include "study/field.h"
#include "study/figures.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

double metric(const Measurement& row, const std::string& name) {
  const auto nan = std::nan("");
  if (name == "margin_neutral") return row.margin_neutral;
  if (name == "margin_contrary") return row.margin_contrary;
  if (row.score.tokens > 0) {
    if (name == "extraction_strength") return row.score.extraction_strength;
    if (name == "exact_memorization") return row.score.exact_memorization;
    if (name == "greedy_match") return row.score.greedy_match ? 1 : 0;
    if (name == "logprob_per_token")
      return row.score.logprob / static_cast<double>(row.score.tokens);
  }
  if (row.reply) {
    const Reply& r = *row.reply;
    const auto share = [](bool yes) { return yes ? 1.0 : 0.0; };
    if (name == "lcs") return r.lcs;
    if (name == "rouge_l") return r.rouge_l;
    if (name == "asserted") return share(r.stance == Stance::asserted);
    if (name == "attributed") return share(r.stance == Stance::attributed);
    if (name == "rejected") return share(r.stance == Stance::rejected);
    if (name == "refusal") return share(r.refusal);
    if (name == "deflection") return share(r.deflection);
    if (name == "degenerate") return share(r.degenerate);
    if (name == "other_language") return share(r.other_language);
    if (name == "leak") return share(!r.leak.empty());
  }
  return nan;  // not measured
}

const std::vector<std::string> kMetrics = {
    "extraction_strength", "exact_memorization", "greedy_match", "logprob_per_token",
    "margin_neutral",      "margin_contrary",    "lcs"};
/// Read off replies.
const std::vector<std::string> kSaid = {"lcs",        "rouge_l",    "asserted",
                                        "attributed", "rejected",   "refusal",
                                        "deflection", "degenerate", "other_language"};
const std::vector<std::string> kElsewhere = {"leak", "refusal", "degenerate", "other_language"};

/// Mean of a metric over the rows that `take` picks, with an interval clustered by item.
template <class Take>
Json mean_metric(const std::vector<Measurement>& rows, const std::string& name,
                 const BootstrapSettings& settings, Take&& take) {
  std::vector<std::string> items;
  std::vector<double> sums, counts;
  for (const Measurement& row : rows) {
    if (!take(row)) continue;
    const double value = metric(row, name);
    if (std::isnan(value)) continue;
    auto it = std::find(items.begin(), items.end(), row.item);
    if (it == items.end()) {
      it = items.insert(items.end(), row.item);
      sums.push_back(0);
      counts.push_back(0);
    }
    const auto index = static_cast<size_t>(it - items.begin());
    sums[index] += value;
    counts[index] += 1;
  }
  if (items.empty()) return nullptr;
  const auto intervals = bootstrap(
      static_cast<int64_t>(items.size()),
      [&](std::span<const double> weights) {
        return std::vector<double>{weighted_mean(weights, sums, counts)};
      },
      settings);
  return estimate(intervals[0]);
}

std::vector<std::string> with_all(const std::vector<std::string>& languages) {
  std::vector<std::string> all = languages;
  if (languages.size() > 1) all.emplace_back("all");
  return all;
}

Json before_attack(const std::vector<StudyModel>& models, const StudyConfig& config) {
  Json all = Json::array();
  for (const StudyModel& model : models) {
    for (const std::string& language : with_all(config.data.languages)) {
      for (const char* phrasing : {"seen", "held_out"}) {
        for (const char* set : {"forget", "retain"}) {
          const auto take = [&](const Measurement& row) {
            return row.set == set && row.phrasing == phrasing && row.probe == "plain" &&
                   (language == "all" || row.language == language);
          };
          std::set<std::string> items;
          for (const auto& row : model.before) {
            if (take(row)) items.insert(row.item);
          }
          if (items.empty()) continue;
          Json entry = {{"model", model.name},
                        {"language", language},
                        {"phrasing", phrasing},
                        {"set", set},
                        {"items", items.size()}};
          for (const std::string& name : kMetrics) {
            entry["metrics"][name] =
                mean_metric(model.before, name, config.statistics.bootstrap, take);
          }
          all.push_back(std::move(entry));
        }
      }
    }
  }
  return all;
}

Json cross(const std::vector<StudyModel>& models, const StudyConfig& config) {
  Json all = Json::array();
  for (const StudyModel& model : models) {
    if (model.kind == "base") continue;
    for (const std::string& language : config.data.languages) {
      all.push_back(
          {{"model", model.name},
           {"treated", model.treated},
           {"attack_language", nullptr},
           {"rung", nullptr},
           {"reach", nullptr},
           {"tested", language},
           {"metric", "extraction_strength"},
           {"value", mean_metric(model.before, "extraction_strength", config.statistics.bootstrap,
                                 [&](const Measurement& row) {
                                   return row.set == "forget" && row.phrasing == "held_out" &&
                                          row.probe == "plain" && row.language == language;
                                 })}});
    }
  }
  return all;
}

/// Everything beyond the plain question's scores: probes, replies, innocent topics, controls.
Json axes(const std::vector<StudyModel>& models, const StudyConfig& config) {
  Json all = Json::array();
  const auto& bootstrap = config.statistics.bootstrap;
  for (const StudyModel& model : models) {
    std::set<std::pair<std::string, std::string>> asked;  // set, probe
    for (const auto& row : model.before)
      if (row.set != "retain") asked.insert({row.set, row.probe});
    for (const auto& [set, probe] : asked) {
      for (const std::string& language : with_all(config.data.languages)) {
        const auto take = [&, set = set, probe = probe](const Measurement& row) {
          return row.set == set && row.probe == probe && row.phrasing == "held_out" &&
                 (language == "all" || row.language == language);
        };
        const auto replies =
            std::count_if(model.before.begin(), model.before.end(),
                          [&](const auto& row) { return take(row) && row.reply.has_value(); });
        Json entry = {{"model", model.name},  {"set", set},         {"probe", probe},
                      {"language", language}, {"replies", replies}, {"metrics", Json::object()}};
        const bool lines = set == "forget";
        if (lines && probe != "plain") {
          for (const char* name : {"extraction_strength", "greedy_match", "logprob_per_token"})
            entry["metrics"][name] = mean_metric(model.before, name, bootstrap, take);
        }
        if (replies > 0) {
          for (const std::string& name : lines ? kSaid : kElsewhere)
            entry["metrics"][name] = mean_metric(model.before, name, bootstrap, take);
        }
        if (!entry["metrics"].empty()) all.push_back(std::move(entry));
      }
    }
  }
  return all;
}

/// The detectors' precision and recall on the labelled replies of the test split.
Json detectors(const StudyConfig& config) {
  Json all = Json::array();
  const auto& path = config.data.calibration;
  if (path.empty()) return all;
  const auto texts = load_calibration_texts(path.parent_path());
  for (const Calibration& c : calibrate(load_calibration(path), texts, "test")) {
    if (c.language != "all") continue;
    all.push_back({{"detector", c.detector},
                   {"n", c.n},
                   {"precision", estimate(c.precision())},
                   {"recall", estimate(c.recall())}});
  }
  return all;
}

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Json rungs(const StudyConfig& config, const Split& split) {
  const auto all = split.train.size() + split.test.size();
  const auto folds = config.attack.folds;
  Json list = Json::array();
  for (const Rung& rung : parse_rungs(config.attack.rungs)) {
    const std::string in = rung.language.empty() ? "" : " in " + rung.language;
    std::string label, trained, tested = fmt::format("all {} lines", all);
    switch (rung.letter) {
      case 'a':
        label = "some of the forgotten lines";
        tested = "the same lines";
        break;
      case 'b':
        label = "other lines of the campaign";
        tested = folds > 1
                     ? fmt::format("the others, in {} folds each of the {} lines once", folds, all)
                     : fmt::format("the other {} lines", split.test.size());
        break;
      case 'c':
        label = "same syntax, other content";
        trained = "retain items, seen phrasings";
        break;
      case 'd':
        label = "benign text";
        trained = "benign questions and answers";
        break;
      default:
        label = "benign text of the other language";
        trained = "benign questions and answers";
        tested += " in the other languages";
    }
    if (trained.empty())
      trained = fmt::format("{} of the {} lines, seen phrasings", split.train.size(), all);
    list.push_back({{"rung", rung.name()},
                    {"label", label + in},
                    {"trained_on", trained + in},
                    {"tested_on", tested + ", held-out phrasings"}});
  }
  for (const WayBack& way : config.ways_back) {
    list.push_back({{"rung", way.name},
                    {"label", fmt::format("{} {}", way.way, way.resolved.dump())},
                    {"trained_on", "nothing"},
                    {"tested_on", fmt::format("all {} lines, held-out phrasings", all)},
                    {"way", way.way}});
  }
  return list;
}

}  // namespace

std::vector<Json> result_rows(const std::vector<StudyModel>& models) {
  std::vector<Json> rows;
  for (const StudyModel& model : models) {
    const Json head = {{"model", model.name}, {"kind", model.kind}, {"method", model.method}};
    for (const Measurement& measured : model.before) {
      Json row = head;
      row["phase"] = "before";
      nlohmann::json fields = measured;
      for (const auto& [key, value] : fields.items()) row[key] = value;
      rows.push_back(std::move(row));
    }
    for (const AttackRow& attack : model.attacked) {
      if (attack.step == 0) continue;  // the state before the attack, measured above
      Json row = head;
      row["phase"] = "attack";
      row["set"] = "forget";
      row["phrasing"] = "held_out";
      row["question"] = nullptr;
      row["intensity"] = nullptr;
      const bool trained = attack.reach == "full" || attack.reach == "lora";
      const Rung rung = trained ? parse_rung(attack.rung) : Rung{'d', ""};
      row["attack_language"] = rung.language.empty() ? Json() : Json(rung.language);  // null: all
      nlohmann::json fields = attack;
      for (const auto& [key, value] : fields.items()) {
        if (key != "final" && key != "model") row[key == "tokens" ? "attack_tokens" : key] = value;
      }
      row["trained"] = attack.part == "train" && rung.trains_on_lines() &&
                       (rung.language.empty() || rung.language == attack.language);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

Json summarize(const StudyConfig& config, const std::vector<StudyModel>& models,
               const Split& split) {
  const auto& statistics = config.statistics;
  Json summary = {{"schema", "resurface.summary/1"},
                  {"study", config.name},
                  {"description", config.description},
                  {"created", now_utc()},
                  {"complete", true},
                  {"languages", config.data.languages},
                  {"lines", split.train.size() + split.test.size()},
                  {"interval", statistics.bootstrap.level},
                  {"resamples", statistics.bootstrap.resamples},
                  {"seeds", config.attack.seeds},
                  {"models", Json::array()},
                  {"rungs", rungs(config, split)},
                  {"attack",
                   {{"learning rates, full", config.attack.rates_full},
                    {"learning rates, LoRA", config.attack.rates_lora},
                    {"steps", config.attack.steps},
                    {"examples a step", config.attack.batch_size},
                    {"schedules", config.attack.schedules},
                    {"LoRA rank", config.attack.lora.rank}}},
                  {"utility_bound", config.attack.utility_bound},
                  {"damaged_below", statistics.damaged_below}};
  if (config.attack.epochs > 0) {
    summary["attack"]["epochs"] = config.attack.epochs;
    summary["attack"].erase("steps");
  }
  if (config.attack.folds > 1) summary["attack"]["folds"] = config.attack.folds;
  const AttackSummary attacks(models, statistics);
  for (const StudyModel& model : models) {
    Json entry = {{"name", model.name}, {"method", model.method},   {"label", model.label},
                  {"kind", model.kind}, {"treated", model.treated}, {"cost", nullptr}};
    const Interval& utility = attacks.utility(model);
    entry["utility"] = estimate(utility);
    entry["damaged"] = std::isnan(utility.estimate) ? Json() : Json(attacks.damaged(model));
    if (model.cost) {
      entry["cost"] = Json(*model.cost);
      entry["cost"]["examples"] = model.examples;
    }
    summary["models"].push_back(std::move(entry));
  }
  summary["before_attack"] = before_attack(models, config);
  attacks.add_recovery(summary);
  summary["axes"] = axes(models, config);
  summary["fit"] = Json::array();
  for (const StudyModel& model : models) {
    if (!model.fit || model.fit->tokens == 0) continue;
    summary["fit"].push_back({{"model", model.name},
                              {"perplexity", number(model.fit->perplexity())},
                              {"kl", number(model.fit->kl)},
                              {"tokens", model.fit->tokens}});
  }
  summary["detectors"] = detectors(config);
  summary["field"] = field_summary(config, models);
  summary["verdict"] = attacks.verdict();
  summary["cross"] = cross(models, config);
  summary["thinning"] =
      config.attack.pick_rate_on_first_seed && config.attack.seeds.size() > 1
          ? fmt::format(
                "For each model, rung and reach all learning rates were run with seed {}; the "
                "other "
                "seeds only at the rate that recovered most within the utility bound. {} held-out "
                "question(s) an item and language were tested during the attack.",
                config.attack.seeds[0],
                config.attack.test_questions > 0 ? std::to_string(config.attack.test_questions)
                                                 : std::string("All"))
          : "";
  summary["notes"] = Json::array();
  return summary;
}

}  // namespace resurface
