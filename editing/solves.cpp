#include "editing/solves.h"

#include "core/run/error.h"

namespace resurface {

at::Tensor ridge_inverse(const at::Tensor& s, double lambda, Solve how) {
  const bool dual = how == Solve::dual || (how == Solve::automatic && s.size(1) < s.size(0));
  auto matrix = dual ? s.t().mm(s) : s.mm(s.t());
  matrix.diagonal().add_(lambda);
  const auto [lower, info] = at::linalg_cholesky_ex(matrix);
  // Pivots of a matrix that is singular but for rounding may come out positive.
  const auto pivots = lower.diagonal().square();
  if (info.item<int>() != 0 || !(pivots.min() > 1e-14 * pivots.max()).item<bool>()) {
    fail(
        "the keys of {} requests depend on each other (two with the same prompt?) and the solve is "
        "regularised by {} only; leave some out or regularise more",
        s.size(1), lambda);
  }
  return dual ? at::cholesky_solve(s.t(), lower).t() : at::cholesky_solve(s, lower);
}

}  // namespace resurface
