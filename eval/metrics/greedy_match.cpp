// Greedy match: all teacher-forced argmaxes are right. By induction over the tokens that is the
// same as greedy decoding giving the answer, at the price of one forward pass instead of |y|.
#include "eval/metrics/metrics.h"

namespace resurface {

bool greedy_match(std::span<const bool> right) {
  return !right.empty() && std::all_of(right.begin(), right.end(), [](bool r) { return r; });
}

}  // namespace resurface
