// Percentile bootstrap over clusters (Efron and Tibshirani 1993, ch. 13; clusters: Cameron et al.
// 2008): whole clusters are drawn with replacement, so that everything measured on one line moves
// together.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "core/run/settings.h"

namespace resurface {

/// A figure and its interval. NaN: undefined; infinity: never reached. Both are null in JSON.
struct Interval {
  double estimate = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};
/// {"mean", "low", "high"}: an estimate of docs/output.md.
void to_json(nlohmann::json& json, const Interval& interval);

struct BootstrapSettings {
  int64_t resamples = 1000;
  double level = 0.95;
  int64_t seed = 0;

  template <class V>
  void visit(V& v) {
    v("resamples", resamples, "bootstrap resamples of the lines", Range::at_least(1));
    v("level", level, "coverage of the intervals", Range::between(0, 1));
    v("seed", seed, "of the resampling");
  }
};

/// Several figures at once, from how often each cluster was drawn (all 1: the estimate).
using Statistic = std::function<std::vector<double>(std::span<const double> weights)>;

/// One interval a figure. Resamples in which a figure is NaN are left out of its interval.
std::vector<Interval> bootstrap(int64_t clusters, const Statistic& statistic,
                                const BootstrapSettings& settings);

/// Sum of weights·sums / sum of weights·counts: a mean over measurements from its per-cluster sums.
/// NaN when nothing was drawn.
double weighted_mean(std::span<const double> weights, std::span<const double> sums,
                     std::span<const double> counts);

/// The q-quantile (0..1) of sorted values, linearly interpolated as numpy's default; NaN when
/// empty.
double quantile(std::span<const double> sorted, double q);

}  // namespace resurface
