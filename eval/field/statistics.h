// The arithmetic that the field's benchmarks share. Pure functions of numbers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace resurface {

/// Throws Error for no values.
double mean(std::span<const double> values);

/// n / sum(1/x); 0 when a value is 0 (the limit). Throws Error for none or a negative value, as
/// scipy.stats.hmean does.
double harmonic_mean(std::span<const double> values);

struct KolmogorovSmirnov {
  double statistic = 0;  ///< D, the largest distance of the two empirical distributions
  double p = 1;          ///< chance of a distance as large when both come from one distribution
};

/// Two-sample, two-sided. Exact where both samples have at most 10,000 values (scipy's rule), else
/// the limiting distribution. Throws Error for an empty sample or a value that is not a number.
KolmogorovSmirnov ks_two_sample(std::span<const double> a, std::span<const double> b);

/// Chance that a member scores above a non-member; a tie counts half. 0.5 when they are alike.
/// Throws Error for an empty side or a value that is not a number.
double auc(std::span<const double> members, std::span<const double> nonmembers);

}  // namespace resurface
