// Black-box search by tree-structured Parzen estimators, multivariate (Bergstra et al. 2011; Ozaki
// et al. 2022 for two objectives), with the rules of Optuna 5.0's TPESampler: the better ceil(0.1
// n) trials (25 at most with one objective) make a density l, the others g, and of some points
// drawn from l the one with the largest l / g is tried next.
//
// A suggestion is a function of the finished trials and a seed alone: a search goes on from its
// log.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace resurface {

struct SearchParameter {
  std::string name;
  double low = 0, high = 1;  ///< low == high: fixed
  int64_t choices = 0;       ///< above 0: one of 0 .. choices - 1, without order; no bounds then
};

struct Trial {
  std::vector<double> values;      ///< one a parameter
  std::vector<double> objectives;  ///< one or two, finite, smaller is better
};

struct TpeSettings {
  int64_t startup = 10;     ///< so many trials are uniform
  int64_t candidates = 24;  ///< points drawn from l
};

/// Values for the next trial. Throws Error when a parameter's range is empty.
std::vector<double> suggest(std::span<const SearchParameter> space, std::span<const Trial> done,
                            const TpeSettings& settings, uint64_t seed);

/// Whether a trial belongs to the `count` best, one flag a trial. Two objectives: whole fronts of
/// trials that no other dominates, and of the front that does not fit whole the trials that
/// greedily add most hypervolume.
std::vector<bool> best_trials(std::span<const Trial> trials, int64_t count);

/// Whether no other trial is as good in every objective and better in one, one flag a trial.
std::vector<bool> nondominated(std::span<const Trial> trials);

/// A mixture of one product of kernels an observation and one, wide, for the prior: normal kernels
/// cut off at the bounds, as wide as the larger gap to a neighbour, at least
/// (high - low) / min(100, n + 2). `weights`: one an observation; the prior's is 1.
class ParzenEstimator {
 public:
  ParzenEstimator(std::span<const SearchParameter> space,
                  const std::vector<std::vector<double>>& observations,
                  const std::vector<double>& weights);

  double log_density(const std::vector<double>& point) const;
  /// `uniform` gives numbers in [0, 1).
  std::vector<double> sample(const std::function<double()>& uniform) const;

  /// 1; from 25 observations on the oldest count less: a ramp from 1/n to 1, then 25 of weight 1.
  static std::vector<double> fading_weights(size_t observations);

 private:
  struct Kernels {
    std::vector<double> mean, width, mass;         ///< normal; mass: within the bounds
    std::vector<std::vector<double>> probability;  ///< of each choice
  };
  std::vector<SearchParameter> space_;
  std::vector<double> weights_;   ///< of the mixture, sum 1
  std::vector<Kernels> kernels_;  ///< one a parameter
};

}  // namespace resurface
