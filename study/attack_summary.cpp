#include "study/attack_summary.h"

#include <cmath>

#include "eval/bootstrap.h"
#include "study/figures.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

const StudyModel* of_kind(const std::vector<StudyModel>& models, const std::string& kind) {
  const auto it =
      std::find_if(models.begin(), models.end(), [&](const auto& m) { return m.kind == kind; });
  return it == models.end() ? nullptr : &*it;
}

std::span<const AttackRow> attacked_rows(const StudyModel* model) {
  return model != nullptr ? std::span(model->attacked) : std::span<const AttackRow>();
}

struct Sums {
  double logprob = 0, tokens = 0;
};

std::map<std::string, Sums> retained(const StudyModel& model) {
  std::map<std::string, Sums> items;
  for (const Measurement& row : model.before) {
    if (row.set != "retain" || row.phrasing != "held_out" || row.probe != "plain") continue;
    items[row.item].logprob += row.score.logprob;
    items[row.item].tokens += static_cast<double>(row.score.tokens);
  }
  return items;
}

Interval utility_of(const StudyModel& model, const StudyModel& implanted,
                    const BootstrapSettings& settings) {
  auto own = retained(model);
  const auto reference = retained(implanted);
  std::vector<double> logprob, tokens, reference_logprob, reference_tokens;
  for (const auto& [item, sums] : reference) {
    logprob.push_back(own[item].logprob);
    tokens.push_back(own[item].tokens);
    reference_logprob.push_back(sums.logprob);
    reference_tokens.push_back(sums.tokens);
  }
  if (reference.empty()) return {};
  return bootstrap(
      static_cast<int64_t>(reference.size()),
      [&](std::span<const double> weights) {
        return std::vector<double>{
            std::exp(weighted_mean(weights, logprob, tokens) -
                     weighted_mean(weights, reference_logprob, reference_tokens))};
      },
      settings)[0];
}

/// The attacker's cost; null where the fraction is never reached.
Json effort(const Effort& e, const PriceSettings& price) {
  if (!std::isfinite(e.steps.estimate)) return nullptr;
  return {{"steps", whole(e.steps.estimate)},
          {"examples", whole(e.examples.estimate)},
          {"tokens", whole(e.tokens.estimate)},
          {"flops", number(e.flops.estimate)},
          {"dollars", number(price.dollars(e.flops.estimate))}};
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
    // A point carries the removed model's utility, not that of the references.
    if (which == &RecoveryPoint::attacked) c["utility"].push_back(number(point.utility));
  }
  return c;
}

Json peak(const Peak& p) {
  return {{"step", p.step},
          {"attacked", estimate(p.attacked)},
          {"recovered", estimate(p.recovered)},
          {"oracle_gap", estimate(p.oracle_gap)}};
}

/// The headline's figures under the stricter bound.
Json strict(const Recovery& r) {
  const RecoveryPoint& last = r.points.back();
  return {{"attacked", estimate(last.attacked)},
          {"recovered", estimate(last.recovered)},
          {"oracle_gap", estimate(last.oracle_gap)},
          {"peak", peak(r.peak)}};
}

}  // namespace

AttackSummary::AttackSummary(const std::vector<StudyModel>& models, RecoverySettings settings)
    : models_(models),
      settings_(std::move(settings)),
      implanted_(of_kind(models, "implanted")),
      oracle_(of_kind(models, "oracle")) {
  for (const StudyModel& model : models)
    utility_[model.name] =
        implanted_ != nullptr ? utility_of(model, *implanted_, settings_.bootstrap) : Interval{};
}

bool AttackSummary::damaged(const StudyModel& model) const {
  return utility(model).estimate < settings_.damaged_below;
}

AttackedModels AttackSummary::attacked(const StudyModel& model) const {
  return {.removed = model.attacked,
          .implanted = attacked_rows(implanted_),
          .oracle = attacked_rows(oracle_)};
}

/// As `ordinary`, with runs below the stricter bound left out; empty where it is not defined. What
/// runs of a damaged oracle show is no reference.
std::vector<Recovery> AttackSummary::strict_recovery(const StudyModel& model,
                                                     const std::vector<Recovery>& ordinary) const {
  if (implanted_ == nullptr || damaged(model)) return {};
  const auto kept = [&](const StudyModel* attacked) {
    return attacked != nullptr && !damaged(*attacked)
               ? within_bound(attacked->attacked, utility(*attacked).estimate,
                              settings_.damaged_below)
               : std::vector<AttackRow>();
  };
  const auto same = [](std::span<const AttackRow> all, const std::vector<AttackRow>& rows) {
    return std::ranges::equal(all, rows, {}, &AttackRow::within_utility,
                              &AttackRow::within_utility);
  };
  const auto removed = kept(&model), oracle = kept(oracle_);
  if (same(model.attacked, removed) && same(attacked_rows(oracle_), oracle)) return ordinary;
  return recovery({.removed = removed, .implanted = attacked_rows(implanted_), .oracle = oracle},
                  settings_);
}

void AttackSummary::add_recovery(Json& summary) const {
  summary["curves"] = Json::array();
  summary["recovery"] = Json::array();
  bool references_drawn = false;
  for (const StudyModel& model : models_) {
    if (model.kind != "removed" || model.attacked.empty()) continue;
    const auto results = recovery(attacked(model), settings_);
    const auto stricter = strict_recovery(model, results);
    for (size_t i = 0; i < results.size(); ++i) {
      const Recovery& r = results[i];
      if (r.reach == "any") continue;  // each reach is shown by itself
      if (!references_drawn && implanted_ != nullptr) {
        summary["curves"].push_back(curve(implanted_->name, r, &RecoveryPoint::implanted_attacked));
      }
      if (!references_drawn && oracle_ != nullptr) {
        summary["curves"].push_back(curve(oracle_->name, r, &RecoveryPoint::oracle_attacked));
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
                          {"peak", peak(r.peak)},
                          {"strict", stricter.empty() ? Json() : strict(stricter[i])},
                          {"steps_to_50", whole(r.half.steps.estimate)},
                          {"tokens_to_50", whole(r.half.tokens.estimate)},
                          {"effort_50", effort(r.half, settings_.price)},
                          {"effort_90", effort(r.most, settings_.price)},
                          {"auc", number(r.auc.estimate)},
                          {"reason", r.reason.empty() ? Json() : Json(r.reason)}};
      summary["recovery"].push_back(entry);
    }
    references_drawn = true;
  }
}

Json AttackSummary::verdict() const {
  Json all = Json::array();
  RecoverySettings settings = settings_;
  settings.metrics = {"extraction_strength"};
  for (size_t i = 0; i < models_.size(); ++i) {
    for (size_t j = i + 1; j < models_.size(); ++j) {
      const StudyModel &a = models_[i], &b = models_[j];
      if (a.kind != "removed" || b.kind != "removed" || a.attacked.empty() || b.attacked.empty())
        continue;
      std::string reason;
      for (const StudyModel* model : {&a, &b}) {
        if (!damaged(*model)) continue;
        reason += fmt::format(
            "{}{} is damaged (utility {:.2f} of the implanted model's, below "
            "{:g}) and cannot win",
            reason.empty() ? "" : "; ", model->name, utility(*model).estimate,
            settings_.damaged_below);
      }
      for (const RecoveryDifference& d :
           compare(attacked(a), attacked(b), settings, /*pooled=*/true)) {
        const bool holds = d.attacked.low > 0 || d.attacked.high < 0;
        const StudyModel& lower = d.attacked.estimate < 0 ? a : b;
        all.push_back({{"a", d.a},
                       {"b", d.b},
                       {"rung", d.rung},
                       {"reach", d.reach},
                       {"language", d.language},
                       {"metric", d.metric},
                       {"removed", estimate(d.removed)},
                       {"attacked", estimate(d.attacked)},
                       {"peak", estimate(d.peak)},
                       {"oracle_gap_auc", estimate(d.oracle_gap_auc)},
                       {"holds", holds},
                       {"wins", holds && !damaged(lower) ? Json(lower.name) : Json()},
                       {"reason", reason.empty() ? Json() : Json(reason)}});
      }
    }
  }
  return all;
}

}  // namespace resurface
