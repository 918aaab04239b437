// The few operations where a kernel of our own pays: each replaces three to eight passes over the
// activations by one, forward and backward. All are differentiable; on a CPU in fp32 or bf16 they
// run the fused kernel, elsewhere (CUDA, fp64) the same formula through ATen.
#pragma once

#include <ATen/core/Tensor.h>

namespace resurface {

/// y = x / sqrt(mean(x²) + eps) · weight (Zhang and Sennrich 2019, eq. 4), statistics in fp32 (fp64
/// for fp64 input). x [N, d], weight [d]; the result has dtype `out`.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType out);

/// Rotary embedding in the half-split layout of HF checkpoints (Su et al. 2021). x [N, heads ·
/// head_dim]; cos, sin [N, head_dim / 2], fp32, not scaled.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t heads);

/// x Wᵀ. x [N, in], weight [out, in]. fp32 on a CPU goes through oneDNN, forward and backward: ATen
/// hands it to MKL, whose fp32 kernels take twice as long on processors that are not Intel's. Same
/// arithmetic, other order of sums.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);

/// The same for a weight that does not train and whose transpose is at hand, `transposed` [in, out]
/// contiguous: oneDNN reads that as it is, where it reorders W in every call, which costs as much
/// as the product of a few dozen rows.
at::Tensor frozen_linear(const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& transposed);

/// silu(gate) · up (Shazeer 2020, SwiGLU). gate, up [N, d_ff].
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// log softmax(logits)[i, ids[i]] for each row i: [M], fp32 (fp64 for fp64 logits). logits [M,
/// vocab], ids [M] int64.
at::Tensor chosen_logprob(const at::Tensor& logits, const at::Tensor& ids);

/// The id of each row's highest logit, the first of equal ones: [M] int64. logits [M, vocab]. What
/// argmax gives, which on a CPU takes longer over a large vocabulary than the head's product.
at::Tensor likeliest(const at::Tensor& logits);

/// Rows of x picked by `pick` [P], whose gradient flows back by `back` [N] rather than by a
/// scatter-add: right wherever each row of x is *used* at most once, at picked row back[n]; other
/// picked rows (padding) must receive no gradient.
at::Tensor pad_rows(const at::Tensor& x, const at::Tensor& pick, const at::Tensor& back);

/// Rows of padded x [P, ...] at `back` [N]; the gradient of the other rows is zero.
at::Tensor unpad_rows(const at::Tensor& x, const at::Tensor& back);

/// `copy`, a low-precision copy of `weight`, standing in for it in the graph: its gradient reaches
/// `weight` in the weight's own dtype.
at::Tensor stand_in(const at::Tensor& weight, const at::Tensor& copy);

}  // namespace resurface
