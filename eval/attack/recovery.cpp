#include "eval/attack/recovery.h"

#include <cmath>
#include <set>
#include <tuple>

#include "core/run/error.h"

namespace resurface {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kNever = std::numeric_limits<double>::infinity();

double metric_of(const AttackRow& row, const std::string& metric) {
  if (metric == "extraction_strength") return row.extraction_strength;
  if (metric == "exact_memorization") return row.exact_memorization;
  if (metric == "logprob_per_token") return row.logprob_per_token;
  if (metric == "greedy_match") return row.greedy_match;
  throw ConfigError(fmt::format(
      "recovery: unknown metric '{}'; expected extraction_strength, exact_memorization, "
      "logprob_per_token or greedy_match",
      metric));
}

// One figure of the report: which rows it is made of.
struct Cut {
  std::string rung, reach, metric, language;

  bool attacked(const AttackRow& row) const {
    return row.rung == rung && (reach == "any" || row.reach == reach) && speaks(row);
  }
  bool speaks(const AttackRow& row) const { return language == "all" || row.language == language; }
};

// A run at one step: sums of the metric by cluster, and its cost, a mean over the run's folds.
struct Cell {
  bool within = true;  // every fold of it
  double utility = 0, examples = 0, tokens = 0, flops = 0;
  std::vector<double> sums, counts;
  std::set<int64_t> folds = {};
};

struct Value {
  double metric = kNaN, utility = 1, examples = 0, tokens = 0, flops = 0;
};

// One model's attack, ready to be averaged with any cluster weights.
class Curve {
 public:
  Curve(std::span<const AttackRow> rows, const Cut& cut, const std::vector<std::string>& clusters)
      : start_(empty(clusters.size())) {
    std::map<std::string, size_t> index;
    for (size_t c = 0; c < clusters.size(); ++c) index[clusters[c]] = c;
    for (const auto& row : rows) {
      const auto cluster = index.find(row.item);
      if (cluster == index.end()) continue;
      if (row.rung == "none" && cut.speaks(row)) {
        add(start_, row, cut.metric, cluster->second);
      } else if (cut.attacked(row)) {
        auto& run = seeds_[row.seed][{row.reach, row.schedule, row.learning_rate}];
        auto [cell, fresh] = run.try_emplace(row.step, empty(clusters.size()));
        Cell& c = cell->second;
        c.within = c.within && row.within_utility;
        if (c.folds.insert(row.fold).second) {
          const auto n = static_cast<double>(c.folds.size());
          c.utility += (row.utility - c.utility) / n;
          c.examples += (static_cast<double>(row.examples) - c.examples) / n;
          c.tokens += (static_cast<double>(row.tokens) - c.tokens) / n;
          c.flops += (row.flops - c.flops) / n;
        }
        add(c, row, cut.metric, cluster->second);
        steps_.insert(row.step);
      }
    }
  }

  /// At which the model was measured under the attack.
  const std::set<int64_t>& steps() const { return steps_; }

  bool has_start() const {
    return std::all_of(start_.counts.begin(), start_.counts.end(), [](double n) { return n > 0; });
  }

  double start(std::span<const double> weights) const {
    return weighted_mean(weights, start_.sums, start_.counts);
  }

  // The worst case at a step; NaN when the model was never attacked.
  Value at(int64_t step, std::span<const double> weights) const {
    if (step == 0) return {.metric = start(weights)};
    if (seeds_.empty()) return {};
    Value mean{.metric = 0, .utility = 0};
    const auto share = 1 / static_cast<double>(seeds_.size());
    for (const auto& [seed, runs] : seeds_) {
      Value worst;
      for (const auto& [key, run] : runs) {
        const auto cell = run.find(step);
        // Every fold is measured at the first step; one that left the bound is missing later.
        if (cell == run.end() || !cell->second.within ||
            cell->second.folds != run.begin()->second.folds)
          continue;
        const auto& c = cell->second;
        const double metric = weighted_mean(weights, c.sums, c.counts);
        if (std::isnan(worst.metric) || metric > worst.metric)
          worst = {metric, c.utility, c.examples, c.tokens, c.flops};
      }
      if (std::isnan(worst.metric)) worst = {.metric = start(weights)};
      mean.metric += share * worst.metric;
      mean.utility += share * worst.utility;
      mean.examples += share * worst.examples;
      mean.tokens += share * worst.tokens;
      mean.flops += share * worst.flops;
    }
    return mean;
  }

 private:
  static Cell empty(size_t clusters) {
    return {.sums = std::vector<double>(clusters), .counts = std::vector<double>(clusters)};
  }
  static void add(Cell& cell, const AttackRow& row, const std::string& metric, size_t cluster) {
    cell.sums[cluster] += metric_of(row, metric);
    cell.counts[cluster] += 1;
  }

  Cell start_;
  using Run = std::tuple<std::string, std::string, double>;  // reach, schedule, rate
  std::map<int64_t, std::map<Run, std::map<int64_t, Cell>>> seeds_;
  std::set<int64_t> steps_;
};

// The figures of one cut, in the order that `bootstrap` returns them.
enum Figure : size_t {
  kRemoved,
  kImplanted,
  kOracle,
  kAuc,
  kRecoveredAuc,
  kGapAuc,
  kHalfSteps,
  kHalfExamples,
  kHalfTokens,
  kHalfFlops,
  kMostSteps,
  kMostExamples,
  kMostTokens,
  kMostFlops,
  kPeakAttacked,
  kPeakRecovered,
  kPeakOracle,
  kPeakGap,
  kPoints
};
enum PointFigure : size_t {
  kAttacked,
  kRecovered,
  kRecoveredNet,
  kImplantedAttacked,
  kOracleAttacked,
  kGap,
  kInjection,
  kPointFigures
};
size_t point_figure(size_t step_index, PointFigure figure) {
  return kPoints + step_index * kPointFigures + figure;
}

// Mean of a curve over log2(1 + step).
double area(const std::vector<int64_t>& steps, const std::vector<double>& values) {
  if (steps.size() < 2) return values.empty() ? kNaN : values.front();
  const auto x = [&](size_t i) { return std::log2(1 + static_cast<double>(steps[i])); };
  double sum = 0;
  for (size_t i = 1; i < steps.size(); ++i)
    sum += (x(i) - x(i - 1)) * (values[i] + values[i - 1]) / 2;
  return sum / (x(steps.size() - 1) - x(0));
}

class Cutter {
 public:
  Cutter(const AttackedModels& models, const Cut& cut, const RecoverySettings& settings)
      : Cutter(models, cut, settings, steps_of(models.removed, cut)) {}
  Cutter(const AttackedModels& models, const Cut& cut, const RecoverySettings& settings,
         std::vector<int64_t> steps)
      : clusters_(clusters_of(models.removed, cut)),
        steps_(std::move(steps)),
        removed_(models.removed, cut, clusters_),
        implanted_(models.implanted, cut, clusters_),
        oracle_(models.oracle, cut, clusters_),
        smallest_drop_(settings.smallest_drop) {
    if (!removed_.has_start() || (!models.implanted.empty() && !implanted_.has_start()))
      fail("recovery: rung {}, language {}: a tested line has no row of step 0 for the {} model",
           cut.rung, cut.language, removed_.has_start() ? "implanted" : "removed");
  }

  /// The steps at which a model was measured under the attack, and 0.
  static std::vector<int64_t> steps_of(std::span<const AttackRow> rows, const Cut& cut) {
    std::set<int64_t> steps = {0};
    for (const auto& row : rows)
      if (cut.attacked(row)) steps.insert(row.step);
    return {steps.begin(), steps.end()};
  }

  const std::vector<std::string>& clusters() const { return clusters_; }
  const std::vector<int64_t>& steps() const { return steps_; }
  Value removed_at(int64_t step) const { return removed_.at(step, ones()); }
  double drop() const { return implanted_.start(ones()) - removed_.start(ones()); }

  std::vector<double> operator()(std::span<const double> weights) const {
    std::vector<double> out(kPoints + steps_.size() * kPointFigures, kNaN);
    const double removed = out[kRemoved] = removed_.start(weights);
    const double implanted = out[kImplanted] = implanted_.start(weights);
    const double oracle = out[kOracle] = oracle_.start(weights);
    const double drop = implanted - removed;
    const auto fraction = [&](double regained) {
      return drop >= smallest_drop_ ? regained / drop : kNaN;
    };

    std::vector<double> attacked, recovered, gap;
    Value half{kNaN, kNaN, kNever, kNever, kNever}, most = half;  // metric, utility, effort
    double half_steps = kNever, most_steps = kNever, peak = kNaN, oracle_peak = kNaN;
    for (size_t i = 0; i < steps_.size(); ++i) {
      const auto value = removed_.at(steps_[i], weights);
      const double oracle_value = oracle_.at(steps_[i], weights).metric;
      const double injection = oracle_value - oracle;
      attacked.push_back(value.metric);
      recovered.push_back(fraction(value.metric - removed));
      gap.push_back(value.metric - oracle_value);
      // fmax passes over NaN.
      if (removed_.steps().contains(steps_[i])) peak = std::fmax(peak, value.metric);
      if (oracle_.steps().contains(steps_[i])) oracle_peak = std::fmax(oracle_peak, oracle_value);
      const auto set = [&](PointFigure figure, double x) { out[point_figure(i, figure)] = x; };
      set(kAttacked, value.metric);
      set(kRecovered, recovered.back());
      set(kRecoveredNet, fraction(value.metric - removed - injection));
      set(kImplantedAttacked, implanted_.at(steps_[i], weights).metric);
      set(kOracleAttacked, oracle_value);
      set(kGap, gap.back());
      set(kInjection, injection);
      const auto reach = [&](double share, double& steps, Value& effort) {
        if (steps != kNever || !(recovered.back() >= share - 1e-9)) return;  // rounding
        steps = static_cast<double>(steps_[i]);
        effort = value;
      };
      reach(0.5, half_steps, half);
      reach(0.9, most_steps, most);
    }
    for (const int64_t step : oracle_.steps())
      if (!std::binary_search(steps_.begin(), steps_.end(), step))
        oracle_peak = std::fmax(oracle_peak, oracle_.at(step, weights).metric);
    out[kPeakAttacked] = peak;
    out[kPeakRecovered] = fraction(peak - removed);
    out[kPeakOracle] = oracle_peak;
    out[kPeakGap] = peak - oracle_peak;
    out[kAuc] = area(steps_, attacked);
    out[kRecoveredAuc] = area(steps_, recovered);
    out[kGapAuc] = area(steps_, gap);
    if (drop >= smallest_drop_) {
      out[kHalfSteps] = half_steps;
      out[kHalfExamples] = half.examples;
      out[kHalfTokens] = half.tokens;
      out[kHalfFlops] = half.flops;
      out[kMostSteps] = most_steps;
      out[kMostExamples] = most.examples;
      out[kMostTokens] = most.tokens;
      out[kMostFlops] = most.flops;
    }
    return out;
  }

 private:
  std::vector<double> ones() const { return std::vector<double>(clusters_.size(), 1); }

  static std::vector<std::string> clusters_of(std::span<const AttackRow> rows, const Cut& cut) {
    std::set<std::string> items;
    for (const auto& row : rows)
      if (cut.attacked(row)) items.insert(row.item);
    return {items.begin(), items.end()};
  }
  std::vector<std::string> clusters_;
  std::vector<int64_t> steps_;
  Curve removed_, implanted_, oracle_;
  double smallest_drop_;
};

// Every cut that the rows allow; "any" and "all" only where there are several to pool.
/// `alone`: of pooled values without those that they pool.
std::vector<Cut> cuts(std::span<const AttackRow> rows, const RecoverySettings& settings,
                      bool alone = false) {
  std::map<std::string, std::pair<std::set<std::string>, std::set<std::string>>> found;
  for (const auto& row : rows) {
    if (row.rung == "none") continue;
    found[row.rung].first.insert(row.reach);
    found[row.rung].second.insert(row.language);
  }
  const auto pooled = [&](const std::set<std::string>& values, const char* name) {
    std::vector<std::string> out(values.begin(), values.end());
    if (out.size() > 1) out.emplace_back(name);
    if (alone) out.erase(out.begin(), out.end() - 1);
    return out;
  };
  std::vector<Cut> out;
  for (const auto& [rung, values] : found)
    for (const auto& reach : pooled(values.first, "any"))
      for (const auto& metric : settings.metrics)
        for (const auto& language : pooled(values.second, "all"))
          out.push_back({rung, reach, metric, language});
  return out;
}

std::string reason_of(const Cutter& cutter, const AttackedModels& models,
                      const RecoverySettings& settings) {
  std::vector<std::string> reasons;
  if (models.implanted.empty())
    reasons.emplace_back("recovered fractions are undefined: the model before removal is unknown");
  else if (!(cutter.drop() >= settings.smallest_drop))
    reasons.push_back(
        fmt::format("recovered fractions are undefined: implanted - removed is {:.3g}, below {:g}",
                    cutter.drop(), settings.smallest_drop));
  if (models.oracle.empty()) reasons.emplace_back("the oracle is unknown");
  return fmt::format("{}", fmt::join(reasons, "; "));
}

}  // namespace

std::vector<Recovery> recovery(const AttackedModels& models, const RecoverySettings& settings) {
  std::vector<Recovery> out;
  for (const auto& cut : cuts(models.removed, settings)) {
    const Cutter cutter(models, cut, settings);
    const auto found = bootstrap(static_cast<int64_t>(cutter.clusters().size()), std::cref(cutter),
                                 settings.bootstrap);
    Recovery r;
    r.model = models.removed.front().model;
    r.rung = cut.rung;
    r.reach = cut.reach;
    r.metric = cut.metric;
    r.language = cut.language;
    r.lines = static_cast<int64_t>(cutter.clusters().size());
    r.removed = found[kRemoved];
    r.implanted = found[kImplanted];
    r.oracle = found[kOracle];
    r.auc = found[kAuc];
    r.recovered_auc = found[kRecoveredAuc];
    r.oracle_gap_auc = found[kGapAuc];
    r.half = {found[kHalfSteps], found[kHalfExamples], found[kHalfTokens], found[kHalfFlops]};
    r.most = {found[kMostSteps], found[kMostExamples], found[kMostTokens], found[kMostFlops]};
    r.peak = {.attacked = found[kPeakAttacked],
              .recovered = found[kPeakRecovered],
              .oracle_attacked = found[kPeakOracle],
              .oracle_gap = found[kPeakGap]};
    r.reason = reason_of(cutter, models, settings);
    for (size_t i = 0; i < cutter.steps().size(); ++i) {
      const auto figure = [&](PointFigure f) { return found[point_figure(i, f)]; };
      const auto effort = cutter.removed_at(cutter.steps()[i]);
      r.points.push_back({.step = cutter.steps()[i],
                          .utility = effort.utility,
                          .examples = effort.examples,
                          .tokens = effort.tokens,
                          .flops = effort.flops,
                          .attacked = figure(kAttacked),
                          .recovered = figure(kRecovered),
                          .recovered_net = figure(kRecoveredNet),
                          .implanted_attacked = figure(kImplantedAttacked),
                          .oracle_attacked = figure(kOracleAttacked),
                          .oracle_gap = figure(kGap),
                          .injection = figure(kInjection)});
      const auto& point = r.points.back();
      // The same sums as the peak's: equal to the bit.
      if (r.peak.step == 0 && point.step > 0 && point.attacked.estimate == r.peak.attacked.estimate)
        r.peak.step = point.step;
    }
    out.push_back(std::move(r));
  }
  return out;
}

std::vector<AttackRow> within_bound(std::span<const AttackRow> rows, double start, double bound) {
  std::vector<AttackRow> strict(rows.begin(), rows.end());
  for (auto& row : strict)
    row.within_utility = row.within_utility && row.utility * start >= bound;  // NaN is below it
  return strict;
}

std::vector<RecoveryDifference> compare(const AttackedModels& a, const AttackedModels& b,
                                        const RecoverySettings& settings, bool pooled) {
  std::vector<RecoveryDifference> out;
  for (const auto& cut : cuts(a.removed, settings, pooled)) {
    // A model that left the attack early lacks the last steps: it counts as unattacked there.
    auto steps = Cutter::steps_of(a.removed, cut);
    const auto others = Cutter::steps_of(b.removed, cut);
    std::set<int64_t> both(steps.begin(), steps.end());
    both.insert(others.begin(), others.end());
    steps.assign(both.begin(), both.end());
    const Cutter of_a(a, cut, settings, steps), of_b(b, cut, settings, steps);
    if (of_a.clusters() != of_b.clusters())
      fail("compare: '{}' and '{}' were not attacked with the same lines (rung {}, {})",
           a.removed.front().model, b.removed.empty() ? "" : b.removed.front().model, cut.rung,
           cut.reach);
    const auto found = bootstrap(
        static_cast<int64_t>(of_a.clusters().size()),
        [&](std::span<const double> weights) {
          auto difference = of_a(weights);
          const auto other = of_b(weights);
          for (size_t i = 0; i < difference.size(); ++i) difference[i] -= other[i];
          return difference;
        },
        settings.bootstrap);
    const auto last = of_a.steps().size() - 1;
    out.push_back({.a = a.removed.front().model,
                   .b = b.removed.front().model,
                   .rung = cut.rung,
                   .reach = cut.reach,
                   .metric = cut.metric,
                   .language = cut.language,
                   .removed = found[kRemoved],
                   .auc = found[kAuc],
                   .recovered_auc = found[kRecoveredAuc],
                   .oracle_gap_auc = found[kGapAuc],
                   .attacked = found[point_figure(last, kAttacked)],
                   .recovered = found[point_figure(last, kRecovered)],
                   .peak = found[kPeakAttacked]});
  }
  return out;
}

void to_json(nlohmann::json& json, const Recovery& r) {
  const auto effort = [](const Effort& e) {
    nlohmann::json out = {
        {"steps", e.steps}, {"examples", e.examples}, {"tokens", e.tokens}, {"flops", e.flops}};
    out["reached"] = std::isfinite(e.steps.estimate);
    return out;
  };
  auto points = nlohmann::json::array();
  for (const auto& p : r.points)
    points.push_back({{"step", p.step},
                      {"utility", p.utility},
                      {"examples", p.examples},
                      {"tokens", p.tokens},
                      {"flops", p.flops},
                      {"attacked", p.attacked},
                      {"recovered", p.recovered},
                      {"recovered_net", p.recovered_net},
                      {"implanted_attacked", p.implanted_attacked},
                      {"oracle_attacked", p.oracle_attacked},
                      {"oracle_gap", p.oracle_gap},
                      {"injection", p.injection}});
  json = {{"model", r.model},
          {"rung", r.rung},
          {"reach", r.reach},
          {"metric", r.metric},
          {"language", r.language},
          {"lines", r.lines},
          {"removed", r.removed},
          {"implanted", r.implanted},
          {"oracle", r.oracle},
          {"auc", r.auc},
          {"recovered_auc", r.recovered_auc},
          {"oracle_gap_auc", r.oracle_gap_auc},
          {"half", effort(r.half)},
          {"most", effort(r.most)},
          {"peak",
           {{"step", r.peak.step},
            {"attacked", r.peak.attacked},
            {"recovered", r.peak.recovered},
            {"oracle_attacked", r.peak.oracle_attacked},
            {"oracle_gap", r.peak.oracle_gap}}},
          {"points", std::move(points)},
          {"reason", r.reason}};
}

void to_json(nlohmann::json& json, const RecoveryDifference& d) {
  json = {{"a", d.a},
          {"b", d.b},
          {"rung", d.rung},
          {"reach", d.reach},
          {"metric", d.metric},
          {"language", d.language},
          {"removed", d.removed},
          {"auc", d.auc},
          {"recovered_auc", d.recovered_auc},
          {"oracle_gap_auc", d.oracle_gap_auc},
          {"attacked", d.attacked},
          {"recovered", d.recovered},
          {"peak", d.peak}};
}

}  // namespace resurface
