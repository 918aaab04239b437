#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "editing/covariance.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

std::vector<std::vector<int64_t>> corpus() {
  std::vector<std::vector<int64_t>> all;
  for (uint64_t s = 0; s < 40; ++s) all.push_back(random_ids(5 + static_cast<int64_t>(s % 17), s));
  return all;
}

/// Sequence by sequence, token by token, in fp64.
at::Tensor direct(const Model& model, const std::vector<std::vector<int64_t>>& text,
                  int64_t layer) {
  const at::NoGradGuard no_grad;
  const int64_t n = model.config().intermediate_size;
  auto sum = at::zeros({n, n}, at::kDouble);
  int64_t tokens = 0;
  for (const auto& sequence : text) {
    HiddenOptions options;
    options.on_key = [&](int64_t at_layer, const at::Tensor& key) {
      if (at_layer != layer) return;
      for (int64_t t = 0; t < key.size(0); ++t) {
        const auto k = key[t].to(at::kDouble);
        sum += at::outer(k, k);
        ++tokens;
      }
    };
    model.hidden(pack_sequences(std::span(&sequence, 1)), options);
  }
  return sum / static_cast<double>(tokens);
}

}  // namespace

TEST_CASE("covariances of several layers in one sweep equal single ones and a direct sum") {
  const auto model = tiny_model(at::kFloat, 300);  // more than one panel
  const auto text = corpus();
  const auto together = measure_covariance(model, text, {2, 0, 1}, 100);
  REQUIRE(together.size() == 3);
  for (const int64_t layer : {0, 1, 2}) {
    const auto oracle = direct(model, text, layer);
    const double scale = oracle.abs().max().item<double>();
    CHECK(largest_difference(together.at(layer), oracle) < 1e-5 * scale);
    const auto alone = measure_covariance(model, text, {layer}, 100);
    CHECK(largest_difference(alone.at(layer), together.at(layer)) < 1e-6 * scale);
    CHECK(at::equal(together.at(layer), together.at(layer).t()));
  }
}

TEST_CASE("a covariance sweep runs nothing above the last layer's key") {
  auto model = tiny_model(at::kFloat);
  const auto text = corpus();
  model.reset_flops();
  measure_covariance(model, text, {0}, 1 << 20);
  const double one = model.flops().forward;
  model.reset_flops();
  const at::NoGradGuard no_grad;
  model.hidden(pack_sequences(text), {.last = 1});
  const auto& config = model.config();
  int64_t tokens = 0;
  for (const auto& sequence : text) tokens += static_cast<int64_t>(sequence.size());
  const auto down =
      2.0 * static_cast<double>(tokens * config.hidden_size * config.intermediate_size);
  CHECK(one == Approx(model.flops().forward - down));
}

TEST_CASE("a stored covariance is not computed again") {
  const ScratchFolder folder;
  const auto model = tiny_model(at::kFloat);
  auto text = corpus();
  std::vector<int64_t> computed;
  const auto first = stored_statistics(folder.path, model, text, {0, 1}, &computed);
  CHECK(computed == std::vector<int64_t>{0, 1});
  const auto second = stored_statistics(folder.path, model, text, {1, 2}, &computed);
  CHECK(computed == std::vector<int64_t>{2});
  CHECK(at::equal(first.covariance(1), second.covariance(1)));

  text[3][0] += text[3][0] == 0 ? 1 : -1;
  stored_statistics(folder.path, model, text, {0}, &computed);
  CHECK(computed == std::vector<int64_t>{0});
  stored_statistics(folder.path, tiny_model(at::kFloat, 24, 4), corpus(), {0}, &computed);
  CHECK(computed == std::vector<int64_t>{0});
}

TEST_CASE("bad covariance requests are refused") {
  const auto model = tiny_model(at::kFloat);
  const auto text = corpus();
  CHECK_THROWS_WITH(measure_covariance(model, text, {4}), Catch::Contains("layers 0 .. 3"));
  CHECK_THROWS_WITH(measure_covariance(model, {}, {0}), Catch::Contains("no tokens"));

  const std::vector<std::vector<int64_t>> few = {random_ids(5, 1)};
  Statistics poor(measure_covariance(model, few, {0}));
  CHECK_THROWS_WITH(poor.covariance(1), Catch::Contains("[0]"));
  CHECK_THROWS_WITH(poor.solve(0, 0, at::ones({24, 1})), Catch::Contains("more tokens"));
  CHECK_NOTHROW(poor.solve(0, 1e-3, at::ones({24, 1})));
}
