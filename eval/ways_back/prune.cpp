// Magnitude pruning, unstructured, each matrix by itself: round(share · size) weights of smallest
// |w| become zero, the first ones of equal magnitude (Han et al. 2015, "Learning both Weights and
// Connections for Efficient Neural Networks", section 3). That unlearning weakens in pruned models:
// Wang et al. 2026, "Sparsity-Aware Unlearning for Large Language Models" (arXiv 2602.00577).

#include <cmath>

#include "eval/ways_back/ways.h"

namespace resurface {

at::Tensor prune(const PruneSettings& s, const at::Tensor& weight) {
  const auto count =
      static_cast<int64_t>(std::llround(s.share * static_cast<double>(weight.numel())));
  if (count == 0) return weight;
  const at::Tensor size = weight.abs().flatten();
  const at::Tensor threshold = std::get<0>(at::kthvalue(size, count));
  const at::Tensor smaller = (size < threshold).nonzero().squeeze(1);
  const at::Tensor equal = (size == threshold).nonzero().squeeze(1);
  const at::Tensor pruned = at::cat({smaller, equal.narrow(0, 0, count - smaller.size(0))});
  return weight.flatten().index_fill(0, pruned, 0).reshape(weight.sizes());
}

}  // namespace resurface
