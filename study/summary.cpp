#include "study/summary.h"

#include <cmath>
#include <ctime>
#include <set>

#include "core/run/error.h"
#include "eval/bootstrap.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json whole(double value) { return std::isfinite(value) ? Json(std::llround(value)) : Json(); }

Json estimate(const Interval& interval) {
  return {{"mean", number(interval.estimate)},
          {"low", number(interval.low)},
          {"high", number(interval.high)}};
}

double metric(const Measurement& row, const std::string& name) {
  if (name == "extraction_strength") return row.score.extraction_strength;
  if (name == "exact_memorization") return row.score.exact_memorization;
  if (name == "greedy_match") return row.score.greedy_match ? 1 : 0;
  if (name == "logprob_per_token") {
    return row.score.logprob / static_cast<double>(row.score.tokens);
  }
  if (name == "margin_neutral") return row.margin_neutral;
  if (name == "margin_contrary") return row.margin_contrary;
  if (name == "lcs") return row.lcs.value_or(std::nan(""));
  fail("unknown metric '{}'", name);
}

const std::vector<std::string> kMetrics = {
    "extraction_strength", "exact_memorization", "greedy_match", "logprob_per_token",
    "margin_neutral",      "margin_contrary",    "lcs"};

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

const StudyModel* of_kind(const std::vector<StudyModel>& models, const std::string& kind) {
  const auto it =
      std::find_if(models.begin(), models.end(), [&](const auto& m) { return m.kind == kind; });
  return it == models.end() ? nullptr : &*it;
}

Json curve(const std::string& model, const Recovery& recovery, Interval RecoveryPoint::*which) {
  Json c = {{"model", model},
            {"rung", recovery.rung},
            {"reach", recovery.reach},
            {"language", recovery.language},
            {"metric", recovery.metric}};
  for (const char* key : {"steps", "tokens", "mean", "low", "high"}) c[key] = Json::array();
  for (const RecoveryPoint& point : recovery.points) {
    c["steps"].push_back(point.step);
    c["tokens"].push_back(std::llround(point.tokens));
    c["mean"].push_back(number((point.*which).estimate));
    c["low"].push_back(number((point.*which).low));
    c["high"].push_back(number((point.*which).high));
  }
  return c;
}

Json before_attack(const std::vector<StudyModel>& models, const StudyConfig& config) {
  Json all = Json::array();
  for (const StudyModel& model : models) {
    for (const std::string& language : with_all(config.data.languages)) {
      for (const char* phrasing : {"seen", "held_out"}) {
        for (const char* set : {"forget", "retain"}) {
          const auto take = [&](const Measurement& row) {
            return row.set == set && row.phrasing == phrasing &&
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
                                          row.language == language;
                                 })}});
    }
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
        tested = fmt::format("the other {} lines", split.test.size());
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
      const Rung rung = parse_rung(attack.rung);
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
                  {"utility_bound", config.attack.utility_bound}};
  for (const StudyModel& model : models) {
    Json entry = {{"name", model.name}, {"method", model.method},   {"label", model.label},
                  {"kind", model.kind}, {"treated", model.treated}, {"cost", nullptr}};
    if (model.cost) {
      entry["cost"] = Json(*model.cost);
      entry["cost"]["examples"] = model.examples;
    }
    summary["models"].push_back(std::move(entry));
  }
  summary["before_attack"] = before_attack(models, config);
  summary["curves"] = Json::array();
  summary["recovery"] = Json::array();

  const StudyModel* implanted = of_kind(models, "implanted");
  const StudyModel* oracle = of_kind(models, "oracle");
  bool references_drawn = false;
  for (const StudyModel& model : models) {
    if (model.kind != "removed" || model.attacked.empty()) continue;
    const auto results = recovery(
        {.removed = model.attacked,
         .implanted =
             implanted != nullptr ? std::span(implanted->attacked) : std::span<const AttackRow>(),
         .oracle = oracle != nullptr ? std::span(oracle->attacked) : std::span<const AttackRow>()},
        statistics);
    for (const Recovery& r : results) {
      if (r.reach == "any") continue;  // each reach is shown by itself
      if (!references_drawn && implanted != nullptr) {
        summary["curves"].push_back(curve(implanted->name, r, &RecoveryPoint::implanted_attacked));
      }
      if (!references_drawn && oracle != nullptr) {
        summary["curves"].push_back(curve(oracle->name, r, &RecoveryPoint::oracle_attacked));
      }
      summary["curves"].push_back(curve(model.name, r, &RecoveryPoint::attacked));
      const RecoveryPoint& last = r.points.back();
      const Json entry = {{"model", model.name},
                          {"rung", r.rung},
                          {"reach", r.reach},
                          {"language", r.language},
                          {"metric", r.metric},
                          {"at_step", last.step},
                          {"attacked", estimate(last.attacked)},
                          {"recovered", estimate(last.recovered)},
                          {"recovered_net", estimate(last.recovered_net)},
                          {"oracle_gap", estimate(last.oracle_gap)},
                          {"injection", estimate(last.injection)},
                          {"steps_to_50", whole(r.half.steps.estimate)},
                          {"tokens_to_50", whole(r.half.tokens.estimate)},
                          {"auc", number(r.auc.estimate)},
                          {"reason", r.reason.empty() ? Json() : Json(r.reason)}};
      summary["recovery"].push_back(entry);
    }
    references_drawn = true;
  }
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

std::string summary_table(const Json& summary) {
  const auto cell = [](const Json& e, const char* format) {
    return e.is_null() || e["mean"].is_null()
               ? std::string("-")
               : fmt::format(fmt::runtime(format), e["mean"].get<double>());
  };
  const std::string language =
      summary["languages"].size() > 1 ? "all" : summary["languages"][0].get<std::string>();
  const auto before = [&](const std::string& model, const char* set,
                          const char* metric_name) -> Json {
    for (const Json& row : summary["before_attack"]) {
      if (row["model"] == model && row["set"] == set && row["phrasing"] == "held_out" &&
          row["language"] == language) {
        return row["metrics"][metric_name];
      }
    }
    return nullptr;
  };
  // The attacker's choice of reach: where most was recovered.
  const auto recovered = [&](const std::string& model, const std::string& rung) -> const Json* {
    const Json* best = nullptr;
    for (const Json& row : summary["recovery"]) {
      if (row["model"] != model || row["rung"] != rung || row["language"] != language ||
          row["metric"] != "extraction_strength" || row["recovered"]["mean"].is_null()) {
        continue;
      }
      if (best == nullptr || row["recovered"]["mean"] > (*best)["recovered"]["mean"]) best = &row;
    }
    return best;
  };
  const auto percent = [](const Json& e) { return std::lround(100 * e.get<double>()); };

  double retrain = 0;
  for (const Json& model : summary["models"]) {
    const bool is = model["method"] == "retrain" || (retrain == 0 && model["kind"] == "oracle");
    if (is && !model["cost"].is_null()) retrain = model["cost"]["flops"].get<double>();
  }
  std::string gap_rung;
  std::vector<std::vector<std::string>> rows = {{"model", "ES", "match", "retain"}};
  for (const Json& rung : summary["rungs"]) {
    rows[0].push_back(fmt::format("recovered {} %", rung["rung"].get<std::string>()));
    if (gap_rung != "b") gap_rung = rung["rung"].get<std::string>();
  }
  for (const std::string& head : {"gap " + gap_rung, std::string("FLOPs"), std::string("x retrain"),
                                  std::string("seconds")}) {
    rows[0].push_back(head);
  }
  for (const Json& model : summary["models"]) {
    const auto name = model["name"].get<std::string>();
    std::vector<std::string> row = {model["label"].get<std::string>(),
                                    cell(before(name, "forget", "extraction_strength"), "{:.2f}"),
                                    cell(before(name, "forget", "greedy_match"), "{:.2f}"),
                                    cell(before(name, "retain", "extraction_strength"), "{:.2f}")};
    for (const Json& rung : summary["rungs"]) {
      const Json* best = recovered(name, rung["rung"].get<std::string>());
      if (best == nullptr) {
        row.emplace_back("-");
        continue;
      }
      const Json& r = (*best)["recovered"];
      std::string text = fmt::format("{}", percent(r["mean"]));
      if (!r["low"].is_null())
        text += fmt::format(" [{}, {}]", percent(r["low"]), percent(r["high"]));
      row.push_back(text + " " + (*best)["reach"].get<std::string>());
    }
    const Json* gap = recovered(name, gap_rung);
    if (gap == nullptr || (*gap)["oracle_gap"]["mean"].is_null()) {
      row.emplace_back("-");
    } else {
      const Json& g = (*gap)["oracle_gap"];
      row.push_back(g["low"].is_null()
                        ? fmt::format("{:.2f}", g["mean"].get<double>())
                        : fmt::format("{:.2f} [{:.2f}, {:.2f}]", g["mean"].get<double>(),
                                      g["low"].get<double>(), g["high"].get<double>()));
    }
    if (model["cost"].is_null()) {
      row.insert(row.end(), {"-", "-", "-"});
    } else {
      const double flops = model["cost"]["flops"].get<double>();
      row.push_back(fmt::format("{:.2g}", flops));
      row.push_back(retrain > 0 ? fmt::format("{:.2f}", flops / retrain) : "-");
      row.push_back(fmt::format("{:.1f}", model["cost"]["seconds"].get<double>()));
    }
    rows.push_back(std::move(row));
  }
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text += '\n';
  }
  return text;
}

}  // namespace resurface
