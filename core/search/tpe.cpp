#include "core/search/tpe.h"

#include <array>
#include <cmath>
#include <numbers>
#include <random>

#include "core/run/error.h"

namespace resurface {
namespace {

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

/// The width of each observation's kernel.
std::vector<double> kernel_widths(const SearchParameter& parameter,
                                  const std::vector<double>& means) {
  const size_t n = means.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return means[a] < means[b]; });
  const double range = parameter.high - parameter.low;
  const double least = range / std::min(100.0, 2.0 + static_cast<double>(n));
  std::vector<double> widths(n);
  for (size_t i = 0; i < n; ++i) {
    const double here = means[order[i]];
    // The bounds count as neighbours of a lonely observation only.
    const double left = i > 0 ? here - means[order[i - 1]] : n == 1 ? here - parameter.low : 0;
    const double right = i + 1 < n ? means[order[i + 1]] - here
                         : n == 1  ? parameter.high - here
                                   : 0;
    widths[order[i]] = std::clamp(std::max(left, right), least, range);
  }
  return widths;
}

bool dominates(const Trial& a, const Trial& b) {
  bool better = false;
  for (size_t k = 0; k < a.objectives.size(); ++k) {
    if (a.objectives[k] > b.objectives[k]) return false;
    better = better || a.objectives[k] < b.objectives[k];
  }
  return better;
}

/// Of trials on one front (two objectives), `count` that greedily add most hypervolume under the
/// reference point just beyond the worst; equals come after all others.
std::vector<size_t> most_hypervolume(std::span<const Trial> trials, std::vector<size_t> front,
                                     size_t count) {
  const auto key = [&](size_t i) { return trials[i].objectives; };
  std::stable_sort(front.begin(), front.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  std::vector<size_t> distinct, repeated, chosen;
  for (const size_t i : front) {
    (distinct.empty() || key(distinct.back()) != key(i) ? distinct : repeated).push_back(i);
  }
  if (distinct.size() <= count) {
    std::sort(repeated.begin(), repeated.end());
    repeated.resize(count - distinct.size());
    distinct.insert(distinct.end(), repeated.begin(), repeated.end());
    return distinct;
  }
  std::array<double, 2> reference{};
  for (size_t k = 0; k < 2; ++k) {
    double worst = key(distinct[0])[k];
    for (const size_t i : distinct) worst = std::max(worst, key(i)[k]);
    reference[k] = std::max(1.1 * worst, 0.9 * worst);
    if (reference[k] == 0) reference[k] = 1e-12;
  }
  // What a point adds is the rectangle up to its chosen neighbours on the front.
  std::vector<std::array<double, 2>> corner(distinct.size(), reference);
  while (chosen.size() < count) {
    size_t best = 0;
    double most = -1;
    for (size_t i = 0; i < distinct.size(); ++i) {
      const auto at = key(distinct[i]);
      const double added = (corner[i][0] - at[0]) * (corner[i][1] - at[1]);
      if (added > most) {
        most = added;
        best = i;
      }
    }
    const auto at = key(distinct[best]);
    chosen.push_back(distinct[best]);
    for (size_t i = 0; i < distinct.size(); ++i) {
      const size_t side = i < best ? 0 : 1;
      corner[i][side] = std::min(corner[i][side], at[side]);
    }
    distinct.erase(distinct.begin() + static_cast<ptrdiff_t>(best));
    corner.erase(corner.begin() + static_cast<ptrdiff_t>(best));
  }
  return chosen;
}

}  // namespace

std::vector<bool> nondominated(std::span<const Trial> trials) {
  std::vector<bool> flags;
  for (const Trial& trial : trials) {
    flags.push_back(std::none_of(trials.begin(), trials.end(),
                                 [&](const Trial& other) { return dominates(other, trial); }));
  }
  return flags;
}

std::vector<bool> best_trials(std::span<const Trial> trials, int64_t count) {
  std::vector<bool> best(trials.size(), false);
  size_t missing = std::min(static_cast<size_t>(count), trials.size());
  std::vector<size_t> rest(trials.size());
  std::iota(rest.begin(), rest.end(), size_t{0});
  if (!trials.empty() && trials[0].objectives.size() == 1) {
    std::stable_sort(rest.begin(), rest.end(), [&](size_t a, size_t b) {
      return trials[a].objectives[0] < trials[b].objectives[0];
    });
    for (size_t i = 0; i < missing; ++i) best[rest[i]] = true;
    return best;
  }
  while (missing > 0) {
    std::vector<Trial> left;
    for (const size_t i : rest) left.push_back(trials[i]);
    const auto on_front = nondominated(left);
    std::vector<size_t> front, behind;
    for (size_t i = 0; i < rest.size(); ++i) (on_front[i] ? front : behind).push_back(rest[i]);
    if (front.size() > missing) front = most_hypervolume(trials, front, missing);
    for (const size_t i : front) best[i] = true;
    missing -= front.size();
    rest = behind;
  }
  return best;
}

std::vector<double> ParzenEstimator::fading_weights(size_t observations) {
  std::vector<double> weights(observations, 1.0);
  if (observations < 25) return weights;
  const size_t ramp = observations - 25;
  const double first = 1.0 / static_cast<double>(observations);
  for (size_t i = 0; i < ramp; ++i) {
    const double share = ramp > 1 ? static_cast<double>(i) / static_cast<double>(ramp - 1) : 0;
    weights[i] = first + share * (1 - first);
  }
  return weights;
}

ParzenEstimator::ParzenEstimator(std::span<const SearchParameter> space,
                                 const std::vector<std::vector<double>>& observations,
                                 const std::vector<double>& weights)
    : space_(space.begin(), space.end()), weights_(weights) {
  const size_t n = observations.size();
  weights_.push_back(1);
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (double& weight : weights_) weight /= sum;
  for (size_t p = 0; p < space_.size(); ++p) {
    const SearchParameter& parameter = space_[p];
    Kernels& kernels = kernels_.emplace_back();
    if (parameter.choices > 0) {
      const auto choices = static_cast<size_t>(parameter.choices);
      const double prior = 1.0 / static_cast<double>(n + 1);
      for (size_t i = 0; i <= n; ++i) {
        std::vector<double> probability(choices, prior);
        if (i < n) probability[static_cast<size_t>(observations[i][p])] += 1;
        const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
        for (double& value : probability) value /= total;
        kernels.probability.push_back(std::move(probability));
      }
      continue;
    }
    for (const auto& observation : observations) kernels.mean.push_back(observation[p]);
    kernels.width = kernel_widths(parameter, kernels.mean);
    kernels.mean.push_back(0.5 * (parameter.low + parameter.high));
    kernels.width.push_back(parameter.high - parameter.low);
    for (size_t i = 0; i <= n; ++i) {
      kernels.mass.push_back(normal_cdf((parameter.high - kernels.mean[i]) / kernels.width[i]) -
                             normal_cdf((parameter.low - kernels.mean[i]) / kernels.width[i]));
    }
  }
}

double ParzenEstimator::log_density(const std::vector<double>& point) const {
  static const double log_root = 0.5 * std::log(2 * std::numbers::pi);
  std::vector<double> terms;
  for (size_t i = 0; i < weights_.size(); ++i) {
    double term = std::log(weights_[i]);
    for (size_t p = 0; p < space_.size(); ++p) {
      const Kernels& kernels = kernels_[p];
      if (space_[p].choices > 0) {
        term += std::log(kernels.probability[i][static_cast<size_t>(point[p])]);
      } else {
        const double z = (point[p] - kernels.mean[i]) / kernels.width[i];
        term -= 0.5 * z * z + log_root + std::log(kernels.width[i] * kernels.mass[i]);
      }
    }
    terms.push_back(term);
  }
  const double largest = *std::max_element(terms.begin(), terms.end());
  double sum = 0;
  for (const double term : terms) sum += std::exp(term - largest);
  return largest + std::log(sum);
}

std::vector<double> ParzenEstimator::sample(const std::function<double()>& uniform) const {
  const auto pick = [&](const std::vector<double>& probability) {
    double rest = uniform();
    size_t i = 0;
    while (i + 1 < probability.size() && rest >= probability[i]) rest -= probability[i++];
    return i;
  };
  const size_t kernel = pick(weights_);
  std::vector<double> point;
  for (size_t p = 0; p < space_.size(); ++p) {
    if (space_[p].choices > 0) {
      point.push_back(static_cast<double>(pick(kernels_[p].probability[kernel])));
      continue;
    }
    double value = 0;
    do {  // means lie within the bounds and widths are at most their distance: a third is kept
      const double radius = std::sqrt(-2 * std::log(1 - uniform()));
      const double normal = radius * std::cos(2 * std::numbers::pi * uniform());
      value = kernels_[p].mean[kernel] + kernels_[p].width[kernel] * normal;
    } while (value < space_[p].low || value > space_[p].high);
    point.push_back(value);
  }
  return point;
}

std::vector<double> suggest(std::span<const SearchParameter> space, std::span<const Trial> done,
                            const TpeSettings& settings, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  std::vector<double> values;
  std::vector<SearchParameter> open;  // with more than one value
  std::vector<size_t> place;
  for (const SearchParameter& parameter : space) {
    if (parameter.choices <= 0 && !(parameter.low <= parameter.high)) {
      fail("search parameter '{}': the range {} .. {} is empty", parameter.name, parameter.low,
           parameter.high);
    }
    values.push_back(parameter.choices > 0 ? 0 : parameter.low);
    if (parameter.choices > 1 || (parameter.choices <= 0 && parameter.low < parameter.high)) {
      open.push_back(parameter);
      place.push_back(values.size() - 1);
    }
  }
  if (std::ssize(done) < settings.startup || done.empty()) {
    for (size_t p = 0; p < open.size(); ++p) {
      const auto choices = static_cast<double>(open[p].choices);
      values[place[p]] = open[p].choices > 0
                             ? std::min(std::floor(uniform() * choices), choices - 1)
                             : open[p].low + uniform() * (open[p].high - open[p].low);
    }
    return values;
  }

  const bool single = done[0].objectives.size() == 1;
  const auto tenth = static_cast<int64_t>(std::ceil(0.1 * static_cast<double>(done.size())));
  const auto best = best_trials(done, single ? std::min<int64_t>(tenth, 25) : tenth);
  std::vector<std::vector<double>> good, bad;
  for (size_t i = 0; i < done.size(); ++i) {
    auto& side = (best[i] ? good : bad).emplace_back();
    for (const size_t p : place) side.push_back(done[i].values[p]);
  }
  const ParzenEstimator l(open, good,
                          single ? ParzenEstimator::fading_weights(good.size())
                                 : std::vector<double>(good.size(), 1.0));
  const ParzenEstimator g(open, bad, ParzenEstimator::fading_weights(bad.size()));
  double most = 0;
  for (int64_t c = 0; c < settings.candidates; ++c) {
    const auto point = l.sample(uniform);
    const double gain = l.log_density(point) - g.log_density(point);
    if (c > 0 && gain <= most) continue;
    most = gain;
    for (size_t p = 0; p < open.size(); ++p) values[place[p]] = point[p];
  }
  return values;
}

}  // namespace resurface
