// Extraction strength (Carlini et al. 2021, "Extracting training data"; Wang et al. 2025, eq. 2):
//   ES = 1 - (1/|y|) min { k : argmax p(. | x, y_<t) = y_t for all t > k }.
// 1 iff exact memorisation is 1; 0 iff the last token is wrong.
#include "core/run/error.h"
#include "eval/metrics/metrics.h"

namespace resurface {

double extraction_strength(std::span<const bool> right) {
  if (right.empty()) fail("extraction strength of an answer without tokens is undefined");
  size_t k = right.size();
  while (k > 0 && right[k - 1]) --k;
  return static_cast<double>(right.size() - k) / static_cast<double>(right.size());
}

}  // namespace resurface
