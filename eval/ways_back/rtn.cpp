// Round to nearest, symmetric, one step an output row or a group of inputs:
//   step = max|w| / (2^(bits-1) - 1),   w' = step · round(w / step)
// so the levels are -(2^(bits-1) - 1) .. 2^(bits-1) - 1 and the largest weight is kept. Half-way
// cases go to even. As an attack: Zhang et al. 2024, "Catastrophic Failure of LLM Unlearning via
// Quantization" (arXiv 2410.16454): an unlearned weight that moved by less than the step
// rounds to what the original rounded to. Only the weights are rounded; activations are not.

#include "eval/ways_back/groups.h"
#include "eval/ways_back/ways.h"

namespace resurface {

at::Tensor rtn(const RtnSettings& s, const at::Tensor& weight) {
  const auto levels = static_cast<double>((int64_t{1} << (s.bits - 1)) - 1);
  return by_groups(weight, s.group > 0 ? s.group : weight.size(1), [&](const at::Tensor& group) {
    const at::Tensor step = largest(group) / levels;
    return at::round(group / step) * step;
  });
}

}  // namespace resurface
