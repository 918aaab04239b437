// A linear layer with low-rank adapters (LoRA, Hu et al. 2021), several of them side by side.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace resurface {

/// x Wᵀ + scale · (x A_gᵀ) B_gᵀ, rows starts[g] .. starts[g + 1] - 1 by adapter g. x [N, in],
/// weight [out, in], a [G, r, in], b [G, out, r] (or [r, in] and [out, r]: one adapter), starts [G
/// + 1] from 0 to N. The product with the weight runs once over all rows. In fp32 on a CPU with
/// widths that are multiples of 16 the low-rank part is added in place, forward and backward, where
/// ATen's operations would pass over [N, out] three times more; a group's numbers do not depend on
/// the other groups. Elsewhere the same formula through ATen.
at::Tensor low_rank_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& a,
                           const at::Tensor& b, double scale, const std::vector<int64_t>& starts);

/// |W + scale · B A| of each row, [out] in the dtype of a, without a graph. weight [out, in], a [r,
/// in], b [out, r].
at::Tensor row_norms(const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b,
                     double scale);

}  // namespace resurface
