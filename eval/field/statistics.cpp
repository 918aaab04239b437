// Kolmogorov-Smirnov: D = max |F_a - F_b|. Under the null every interleaving of the n + m values is
// equally likely; it is a path from (0, 0) to (n, m), and p is the share of paths that somewhere
// leave |x m - y n| < D n m (Hodges 1958; Schröer and Trenkler 1995). That share is summed up as a
// chance of leaving, in positive terms only, so that a p of 1e-40 is not lost in 1 - p. For larger
// samples p = 2 sum_k (-1)^(k-1) exp(-2 k^2 z^2), z = D sqrt(nm/(n+m)) (Smirnov 1939); scipy uses a
// finite-sample form of the same law there.
//
// AUC is the Mann-Whitney U over the number of pairs (Hanley and McNeil 1982).
#include "eval/field/statistics.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

constexpr size_t kExact = 10000;

std::vector<double> sorted(std::span<const double> values, const char* what) {
  if (values.empty()) fail("{} needs at least one value on each side", what);
  for (const double value : values) {
    if (std::isnan(value)) fail("{}: a value is not a number", what);
  }
  std::vector<double> out(values.begin(), values.end());
  std::sort(out.begin(), out.end());
  return out;
}

/// max |i m - j n| over the data, i and j the values of each sample up to there: D n m, an integer.
int64_t largest_distance(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<int64_t>(a.size()), m = static_cast<int64_t>(b.size());
  int64_t i = 0, j = 0, largest = 0;
  while (i < n && j < m) {
    const double at = std::min(a[static_cast<size_t>(i)], b[static_cast<size_t>(j)]);
    while (i < n && a[static_cast<size_t>(i)] <= at) ++i;
    while (j < m && b[static_cast<size_t>(j)] <= at) ++j;
    largest = std::max(largest, std::abs(i * m - j * n));
  }
  return largest;
}

/// Chance that a random path from (0, 0) to (n, m) touches |x m - y n| >= distance.
double chance_of_leaving(int64_t n, int64_t m, int64_t distance) {
  std::vector<double> row(static_cast<size_t>(m) + 1);  // chance from (x, y), for one x
  for (int64_t x = n; x >= 0; --x) {
    for (int64_t y = m; y >= 0; --y) {
      double& here = row[static_cast<size_t>(y)];  // still the chance from (x + 1, y)
      if (std::abs(x * m - y * n) >= distance) {
        here = 1;
        continue;
      }
      const auto right = static_cast<double>(n - x), up = static_cast<double>(m - y);
      if (right + up == 0) {
        here = 0;
      } else {
        const double above = y < m ? row[static_cast<size_t>(y) + 1] : 0;
        here = (right * (x < n ? here : 0) + up * above) / (right + up);
      }
    }
  }
  return row[0];
}

double limiting_tail(double z) {
  if (z < 0.2) return 1;  // 1 - 1e-12 there; the series needs ever more terms
  double sum = 0;
  for (int k = 1; k <= 100; ++k) {
    const double term = std::exp(-2 * k * k * z * z);
    sum += k % 2 == 1 ? term : -term;
    if (term < 1e-18 * sum) break;
  }
  return std::clamp(2 * sum, 0.0, 1.0);
}

}  // namespace

double mean(std::span<const double> values) {
  if (values.empty()) fail("the mean of no values is undefined");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double harmonic_mean(std::span<const double> values) {
  if (values.empty()) fail("the harmonic mean of no values is undefined");
  double inverse = 0;
  for (const double value : values) {
    if (!(value >= 0)) fail("the harmonic mean of {} is undefined; expected values >= 0", value);
    inverse += 1 / value;  // 1/0 is infinite, and the mean 0
  }
  return static_cast<double>(values.size()) / inverse;
}

KolmogorovSmirnov ks_two_sample(std::span<const double> a, std::span<const double> b) {
  const auto first = sorted(a, "the Kolmogorov-Smirnov test");
  const auto second = sorted(b, "the Kolmogorov-Smirnov test");
  const auto n = static_cast<int64_t>(a.size()), m = static_cast<int64_t>(b.size());
  const int64_t distance = largest_distance(first, second);
  const auto pairs = static_cast<double>(n) * static_cast<double>(m);
  const double d = static_cast<double>(distance) / pairs;
  if (distance == 0) return {0, 1};
  if (std::max(a.size(), b.size()) <= kExact) return {d, chance_of_leaving(n, m, distance)};
  return {d, limiting_tail(d * std::sqrt(pairs / static_cast<double>(n + m)))};
}

double auc(std::span<const double> members, std::span<const double> nonmembers) {
  const auto high = sorted(members, "an AUC");
  const auto low = sorted(nonmembers, "an AUC");
  double wins = 0;
  for (const double value : high) {
    const auto [first, last] = std::equal_range(low.begin(), low.end(), value);
    wins += static_cast<double>(first - low.begin()) + 0.5 * static_cast<double>(last - first);
  }
  return wins / (static_cast<double>(high.size()) * static_cast<double>(low.size()));
}

}  // namespace resurface
