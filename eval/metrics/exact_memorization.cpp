// Exact memorisation (Tirumala et al. 2022, "Memorization without overfitting", eq. 1; as an
// unlearning metric in open-unlearning): share of tokens t with argmax p(. | x, y_<t) = y_t.
#include "core/run/error.h"
#include "eval/metrics/metrics.h"

namespace resurface {

double exact_memorization(std::span<const bool> right) {
  if (right.empty()) fail("exact memorisation of an answer without tokens is undefined");
  return static_cast<double>(std::count(right.begin(), right.end(), true)) /
         static_cast<double>(right.size());
}

}  // namespace resurface
