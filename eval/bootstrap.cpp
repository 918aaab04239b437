#include "eval/bootstrap.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

// SplitMix64 (Steele et al. 2014): the same draws on every standard library and in
// scripts/golden_eval.py.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  // Uniform over 0 .. n-1, by the high half of a 64x32-bit product.
  size_t below(size_t n) {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return static_cast<size_t>((((z ^ (z >> 31)) >> 32) * n) >> 32);
  }

 private:
  uint64_t state_;
};

}  // namespace

void to_json(nlohmann::json& json, const Interval& interval) {
  json = {{"mean", interval.estimate}, {"low", interval.low}, {"high", interval.high}};
}

double weighted_mean(std::span<const double> weights, std::span<const double> sums,
                     std::span<const double> counts) {
  double sum = 0, count = 0;
  for (size_t c = 0; c < weights.size(); ++c) {
    if (weights[c] == 0) continue;  // a cluster not drawn must not spread its NaN
    sum += weights[c] * sums[c];
    count += weights[c] * counts[c];
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

double quantile(std::span<const double> sorted, double q) {
  if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const double fraction = at - static_cast<double>(below);
  // Infinite neighbours would make NaN out of inf - inf or 0 * inf.
  if (fraction == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
  return sorted[below] + fraction * (sorted[below + 1] - sorted[below]);
}

std::vector<Interval> bootstrap(int64_t clusters, const Statistic& statistic,
                                const BootstrapSettings& settings) {
  if (clusters < 1) fail("bootstrap: expected at least one cluster, got {}", clusters);
  const auto n = static_cast<size_t>(clusters);
  std::vector<double> weights(n, 1);
  const auto estimate = statistic(weights);

  std::vector<std::vector<double>> draws(estimate.size());
  SplitMix random(static_cast<uint64_t>(settings.seed));
  for (int64_t r = 0; r < settings.resamples; ++r) {
    std::fill(weights.begin(), weights.end(), 0);
    for (size_t c = 0; c < n; ++c) weights[random.below(n)] += 1;
    const auto values = statistic(weights);
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isnan(values[i])) draws[i].push_back(values[i]);
  }

  std::vector<Interval> intervals;
  const double tail = (1 - settings.level) / 2;
  for (size_t i = 0; i < estimate.size(); ++i) {
    std::sort(draws[i].begin(), draws[i].end());
    intervals.push_back({estimate[i], quantile(draws[i], tail), quantile(draws[i], 1 - tail)});
  }
  return intervals;
}

}  // namespace resurface
