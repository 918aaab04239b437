#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "editing/covariance.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

at::Tensor random(int64_t rows, int64_t columns, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn({rows, columns}, at::kDouble);
}

/// A covariance of 12 directions whose scales go from 1 down to about 1e-4.
at::Tensor covariance() {
  const auto factor = random(12, 40, 1) * at::logspace(0, -2, 12, 10, at::kDouble).unsqueeze(1);
  return (factor.mm(factor.t()) / 40).to(at::kFloat);
}

}  // namespace

TEST_CASE("the ridge solve: primal, dual and LU agree, for few and for many columns") {
  for (const int64_t n : {1, 5, 12, 30}) {
    const auto s = random(12, n, 2);
    const double lambda = 0.3;
    const auto direct = at::linalg_solve(s.mm(s.t()) + lambda * at::eye(12, at::kDouble), s);
    for (const auto how : {Solve::automatic, Solve::primal, Solve::dual}) {
      CHECK(largest_difference(ridge_inverse(s, lambda, how), direct) < 1e-12);
    }
  }
  // Without regularisation it is the pseudo-inverse's transpose.
  const auto s = random(12, 5, 2);
  CHECK(largest_difference(ridge_inverse(s, 0), at::linalg_pinv(s).t()) < 1e-12);
}

TEST_CASE("keys that depend on each other are refused without regularisation") {
  auto s = random(12, 5, 2);
  s.select(1, 3).copy_(s.select(1, 1));
  CHECK_THROWS_WITH(ridge_inverse(s, 0), Catch::Contains("same prompt"));
  CHECK_NOTHROW(ridge_inverse(s, 0.1));
  s[0][0] = std::nan("");
  CHECK_THROWS_AS(ridge_inverse(s, 0.1), Error);
}

TEST_CASE("directions are (lambda C + KK')^-1 K, whatever was solved before") {
  Statistics statistics({{2, covariance()}});
  const double ridge = 1e-3;
  auto c = covariance().to(at::kDouble);
  c.diagonal().add_(ridge * c.diagonal().mean());
  for (const int64_t n : {1, 5, 30}) {
    const auto keys = random(12, n, 3);
    const auto direct = at::linalg_solve(20 * c + keys.mm(keys.t()), keys);
    const double scale = direct.abs().max().item<double>();
    for (const auto how : {Solve::automatic, Solve::primal, Solve::dual}) {
      CHECK(largest_difference(statistics.directions(2, ridge, 20, keys, how), direct) <
            1e-10 * scale);
    }
    Statistics fresh({{2, covariance()}});
    CHECK(
        at::equal(fresh.directions(2, ridge, 20, keys), statistics.directions(2, ridge, 20, keys)));
  }
}

TEST_CASE("the null space: a projector on what the covariance hardly has") {
  Statistics statistics({{0, covariance()}});
  const auto c = covariance().to(at::kDouble);
  const double threshold = at::linalg_eigvalsh(c)[7].item<double>() * 1.0001;
  const auto basis = statistics.null_space(0, threshold);
  CHECK(basis.size(1) == 8);
  const auto projector = basis.mm(basis.t());
  CHECK(largest_difference(projector.mm(projector), projector) < 1e-12);
  CHECK(largest_difference(projector, projector.t()) < 1e-14);
  CHECK(at::linalg_eigvalsh(basis.t().mm(c).mm(basis)).max().item<double>() < threshold);
  // P and C commute: P projects on eigenvectors.
  CHECK(largest_difference(projector.mm(c), c.mm(projector)) < 1e-12);
  CHECK(largest_difference(statistics.null_space(0, 1e9).mm(statistics.null_space(0, 1e9).t()),
                           at::eye(12, at::kDouble)) < 1e-12);
  CHECK_THROWS_WITH(statistics.null_space(0, 1e-12),
                    Catch::Contains("threshold") && Catch::Contains("largest"));
}

TEST_CASE("a covariance of another model is refused") {
  Statistics statistics({{0, covariance()}}, "aaaa");
  CHECK_NOTHROW(statistics.check_model("aaaa"));
  CHECK_THROWS_WITH(statistics.check_model("bbbb"),
                    Catch::Contains("aaaa") && Catch::Contains("bbbb"));
  CHECK_THROWS_WITH(statistics.directions(0, 0, 1, random(13, 2, 1)),
                    Catch::Contains("width 12") && Catch::Contains("another model"));

  // A stored file under another model's name.
  const ScratchFolder folder;
  const auto mine = tiny_model(at::kFloat), other = tiny_model(at::kFloat, 24, 9);
  const std::vector<std::vector<int64_t>> text = {random_ids(60, 1)};
  stored_statistics(folder.path, mine, text, {0});
  std::filesystem::path file;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path)) file = entry.path();
  auto name = file.filename().string();
  name.replace(name.find(mine.content_hash()), mine.content_hash().size(), other.content_hash());
  std::filesystem::rename(file, folder.path / name);
  CHECK_THROWS_WITH(stored_statistics(folder.path, other, text, {0}), Catch::Contains("remove it"));
}
