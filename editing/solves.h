// The one linear solve of the editors that write many keys at once.
#pragma once

#include <ATen/core/Tensor.h>

namespace resurface {

enum class Solve { automatic, primal, dual };

/// (λI + SSᵀ)⁻¹ S (primal) = S (λI + SᵀS)⁻¹ (dual, by Woodbury's identity) of S [d, n] fp64: a
/// Cholesky factor of d x d or of n x n; automatic takes the smaller. Throws Error when that matrix
/// is singular to fp64: λ is (nearly) zero and columns of S depend on each other.
at::Tensor ridge_inverse(const at::Tensor& s, double lambda, Solve how = Solve::automatic);

}  // namespace resurface
