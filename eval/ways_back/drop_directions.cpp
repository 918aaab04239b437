// With D = Σ_i σ_i u_i v_iᵀ, σ falling:  W' = W - Σ_{i <= r} σ_i u_i v_iᵀ.
//
// drop_directions: D = W - W_ref. An edit of a few facts is a sum of few outer products (ROME: one,
// Meng et al. 2022, eq. 2), so that it is the top of D where the edited matrix was also trained a
// little, and all of D where it was not. The rest of D stays.
// bottom_rank: D = W, no reference needed (Youssef et al. 2025, "Tracing and Reversing Edits in
// LLMs", arXiv 2505.20819): an edit that is large against the matrix is among its own top
// directions. Meant for the one matrix under suspicion (`only`); on all it destroys the model.
//
// The directions of the smaller side come from the eigenvectors of D Dᵀ or Dᵀ D, in fp64.

#include "eval/ways_back/ways.h"

namespace resurface {
namespace {

int64_t directions(const DropDirectionsSettings& s, const at::Tensor& rising_squares) {
  const int64_t all = rising_squares.size(0);
  if (s.energy == 0) return std::min(s.rank, all);
  const at::Tensor held = rising_squares.clamp_min(0).flip(0).cumsum(0);
  const at::Tensor too_few = held < s.energy * held[-1];
  return std::min(all, too_few.sum().item<int64_t>() + 1);
}

at::Tensor without_top(const DropDirectionsSettings& s, const at::Tensor& weight,
                       const at::Tensor& difference) {
  const at::Tensor d = difference.to(at::kDouble);
  if (!d.any().item<bool>()) return weight;
  const bool wide = d.size(0) <= d.size(1);
  const auto [squares, vectors] = at::linalg_eigh(wide ? d.mm(d.t()) : d.t().mm(d));
  const int64_t r = directions(s, squares);
  const at::Tensor top = vectors.narrow(1, squares.size(0) - r, r);
  const at::Tensor part = wide ? top.mm(top.t().mm(d)) : d.mm(top).mm(top.t());
  return (weight.to(at::kDouble) - part).to(weight.scalar_type());
}

}  // namespace

at::Tensor drop_directions(const DropDirectionsSettings& s, const at::Tensor& weight,
                           const at::Tensor& reference) {
  return without_top(s, weight, weight.to(at::kDouble) - reference.to(at::kDouble));
}

at::Tensor bottom_rank(const DropDirectionsSettings& s, const at::Tensor& weight) {
  return without_top(s, weight, weight);
}

}  // namespace resurface
