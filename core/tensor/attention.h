// Causal attention over packed sequences on a CPU: no padding, no copies of keys for grouped
// queries, nothing above the diagonal. LibTorch's scaled_dot_product_attention wants every sequence
// padded to the longest and takes four times as long forward and backward at a hundred tokens; it
// serves where this kernel does not (GPU, fp64, odd head sizes).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace resurface {

/// How the sequences lie in the packed rows, and what each has before it.
struct AttentionLayout {
  std::vector<int64_t> starts;   ///< [B] first row of each sequence
  std::vector<int64_t> lengths;  ///< [B] rows of each sequence
  int64_t heads = 0;
  int64_t kv_heads =
      0;  ///< divides heads; query head h reads key-value head h / (heads / kv_heads)
  std::vector<int64_t> prefix;  ///< [B] positions seen before, or empty: none
  double scale = 0;             ///< of the scores; 0: 1 / sqrt(head_dim)
  int64_t window = 0;           ///< positions a row looks at, its own included; 0: all
};

/// Whether packed_attention takes tensors like q: CPU, fp32 or bf16, head_dim a multiple of 16.
bool packed_attention_takes(at::Device device, at::ScalarType type, int64_t head_dim);

/// softmax(q kᵀ · scale) v, each row looking at its sequence's prefix and at its sequence's rows up
/// to itself, within the window (Vaswani et al. 2017, eq. 1), arithmetic in fp32. q [N, heads ·
/// head_dim], k, v [N, kv_heads · head_dim] packed; prefix_keys, prefix_values [B, kv_heads, >=
/// prefix, head_dim] of the same type, constants to the gradient (undefined without a prefix).
/// Result like q.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionLayout& layout, const at::Tensor& prefix_keys = {},
                            const at::Tensor& prefix_values = {});

}  // namespace resurface
