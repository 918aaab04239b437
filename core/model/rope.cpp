// The frequencies of the rotary embedding and of its scalings, as transformers computes them
// (modeling_rope_utils.py).
#include <algorithm>
#include <cmath>

#include "core/model/config.h"

namespace resurface {
namespace {

/// How much of a frequency yarn leaves as it is: 1 where a position turns fast, 0 where it turns
/// slowly, a ramp between (Peng et al. 2023, arXiv 2309.00071, eq. 22 and 23).
double yarn_share(const Rope& rope, int64_t pair, int64_t dims) {
  // The dimension whose angle goes round so many times over the original context.
  const auto dimension = [&](double turns) {
    return static_cast<double>(dims) *
           std::log(static_cast<double>(rope.original_context) / (turns * 2 * M_PI)) /
           (2 * std::log(rope.theta));
  };
  double low = dimension(rope.beta_fast), high = dimension(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dims - 1));
  if (low == high) high += 0.001;
  return 1 - std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
}

/// Llama 3.1: long wavelengths are stretched, short ones kept, those between interpolated.
double llama3_share(const Rope& rope, double frequency) {
  const double turns = static_cast<double>(rope.original_context) * frequency / (2 * M_PI);
  return std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor),
                    0.0, 1.0);
}

}  // namespace

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

std::vector<double> Rope::inverse_frequencies(int64_t dims_asked, int64_t length) const {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < dims_asked; i += 2) {
    const double f = std::pow(theta, -static_cast<double>(i) / static_cast<double>(dims_asked));
    const auto pair = static_cast<size_t>(i / 2);
    double kept = 1;  // the share that is not divided by the factor
    if (type == "linear") kept = 0;
    if (type == "llama3") kept = llama3_share(*this, f);
    if (type == "yarn") kept = yarn_share(*this, i / 2, dims_asked);
    double result = (1 - kept) * f / factor + kept * f;
    if (type == "longrope") {
      result = f / (length > original_context ? long_factor : short_factor).at(pair);
    }
    frequencies.push_back(result);
  }
  return frequencies;
}

}  // namespace resurface
