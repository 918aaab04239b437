// The packed attention kernel against softmax(q kᵀ · scale) v written out in fp64.
#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "core/tensor/attention.h"

namespace resurface {
namespace {

struct Case {
  AttentionLayout layout;
  int64_t dim;
};

struct Tensors {
  at::Tensor q, k, v, prefix_keys, prefix_values, weight;
};

/// The definition, one sequence and head at a time, in fp64; differentiable.
at::Tensor reference(const Tensors& t, const Case& c) {
  std::vector<at::Tensor> all;
  for (size_t b = 0; b < c.layout.lengths.size(); ++b) {
    const int64_t n = c.layout.lengths[b], start = c.layout.starts[b];
    const int64_t past = c.layout.prefix.empty() ? 0 : c.layout.prefix[b];
    std::vector<at::Tensor> heads;
    for (int64_t h = 0; h < c.layout.heads; ++h) {
      const int64_t g = h / (c.layout.heads / c.layout.kv_heads);
      const auto rows = [&](const at::Tensor& x, int64_t head) {
        return x.narrow(0, start, n).narrow(1, head * c.dim, c.dim);
      };
      at::Tensor keys = rows(t.k, g), values = rows(t.v, g);
      if (past > 0) {
        const auto row = static_cast<int64_t>(b);
        keys = at::cat({t.prefix_keys[row][g].narrow(0, 0, past), keys});
        values = at::cat({t.prefix_values[row][g].narrow(0, 0, past), values});
      }
      const at::Tensor everything = at::ones({n, past + n}, at::kBool);
      at::Tensor hidden = everything.triu(past + 1);
      if (c.layout.window > 0) hidden = hidden + everything.tril(past - c.layout.window);
      const double scale =
          c.layout.scale > 0 ? c.layout.scale : 1 / std::sqrt(static_cast<double>(c.dim));
      const at::Tensor scores = (at::mm(rows(t.q, h), keys.t()) * scale)
                                    .masked_fill(hidden, -std::numeric_limits<double>::infinity());
      heads.push_back(at::mm(scores.softmax(1), values));
    }
    all.push_back(at::cat(heads, 1));
  }
  return at::cat(all);
}

Case make_case(std::vector<int64_t> lengths, int64_t heads, int64_t kv_heads, int64_t dim,
               std::vector<int64_t> prefix = {}) {
  Case c{.layout = {.starts = {},
                    .lengths = std::move(lengths),
                    .heads = heads,
                    .kv_heads = kv_heads,
                    .prefix = std::move(prefix)},
         .dim = dim};
  int64_t start = 0;
  for (const int64_t n : c.layout.lengths) {
    c.layout.starts.push_back(start);
    start += n;
  }
  return c;
}

/// Random inputs of the case, rounded to `type` and kept in fp64: both roads read the same numbers.
Tensors random_tensors(const Case& c, at::ScalarType type) {
  int64_t n = 0, longest = 0;
  for (const int64_t length : c.layout.lengths) n += length;
  for (const int64_t length : c.layout.prefix) longest = std::max(longest, length);
  const auto make = [&](at::IntArrayRef shape) {
    return at::randn(shape).to(type).to(at::kDouble);
  };
  const auto batch = static_cast<int64_t>(c.layout.lengths.size());
  Tensors t{.q = make({n, c.layout.heads * c.dim}) * 2,
            .k = make({n, c.layout.kv_heads * c.dim}),
            .v = make({n, c.layout.kv_heads * c.dim}),
            .prefix_keys = {},
            .prefix_values = {},
            .weight = make({n, c.layout.heads * c.dim})};
  if (longest > 0) {  // a cache has room for more positions than are filled
    t.prefix_keys = make({batch, c.layout.kv_heads, longest + 5, c.dim});
    t.prefix_values = make({batch, c.layout.kv_heads, longest + 5, c.dim});
  }
  return t;
}

double relative(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.sizes() == want.sizes());
  // A single token has nothing to choose from: its gradient to q and k is zero.
  const double scale = std::max(want.abs().max().item<double>(), 1e-2);
  return (got.to(at::kDouble) - want).abs().max().item<double>() / scale;
}

void check(const Case& c, at::ScalarType type, double tolerance) {
  const Tensors exact = random_tensors(c, type);
  const auto leaf = [](const at::Tensor& x, at::ScalarType as) {
    return x.to(as, false, true).detach().requires_grad_(true);
  };
  const auto convert = [&](const at::Tensor& x) { return x.defined() ? x.to(type) : x; };
  Tensors a = exact, b = exact;
  for (at::Tensor Tensors::*x : {&Tensors::q, &Tensors::k, &Tensors::v}) {
    a.*x = leaf(exact.*x, at::kDouble);
    b.*x = leaf(exact.*x, type);
  }
  b.prefix_keys = convert(exact.prefix_keys);
  b.prefix_values = convert(exact.prefix_values);

  const at::Tensor want = reference(a, c);
  const at::Tensor got = packed_attention(b.q, b.k, b.v, c.layout, b.prefix_keys, b.prefix_values);
  CHECK(got.scalar_type() == type);
  CHECK(relative(got, want.detach()) < tolerance);
  (want * a.weight).sum().backward();
  (got * b.weight.to(type)).sum().backward();
  CHECK(relative(b.q.grad(), a.q.grad()) < tolerance);
  CHECK(relative(b.k.grad(), a.k.grad()) < tolerance);
  CHECK(relative(b.v.grad(), a.v.grad()) < tolerance);
}

TEST_CASE("packed attention and its gradient are the definition's", "[attention]") {
  at::manual_seed(7);
  std::vector<Case> cases = {
      make_case({1}, 1, 1, 16),
      make_case({5, 1, 23, 24, 25, 50, 97}, 6, 2, 16),  // around the kernel's blocks of rows
      make_case({130, 15, 16, 17}, 9, 3, 64),
      make_case({33, 7}, 4, 4, 48),
      make_case({3, 1, 40}, 4, 2, 32, {20, 0, 7}),  // prefixes of different lengths, one empty
      make_case({1, 1, 1}, 9, 3, 64, {100, 31, 64}),
  };
  for (const int64_t window : {1, 17, 64}) {
    cases.push_back(make_case({5, 97, 24}, 6, 2, 16));
    cases.push_back(make_case({3, 1, 40}, 4, 2, 32, {20, 0, 70}));
    for (Case* c : {&cases[cases.size() - 2], &cases.back()}) {
      c->layout.window = window;
      c->layout.scale = 0.3;
    }
  }
  for (const Case& c : cases) {
    CAPTURE(c.layout.lengths, c.layout.prefix, c.layout.window, c.dim);
    check(c, at::kFloat, 3e-6);
    check(c, at::kBFloat16, 1e-2);
  }
}

TEST_CASE("packed attention is the same for any number of threads", "[attention]") {
  at::manual_seed(8);
  const Case c = make_case({60, 5, 90, 31}, 6, 2, 32);
  const Tensors t = random_tensors(c, at::kFloat);
  const auto run = [&] {
    const auto q = t.q.to(at::kFloat).requires_grad_(true);
    const auto k = t.k.to(at::kFloat).requires_grad_(true);
    const auto v = t.v.to(at::kFloat).requires_grad_(true);
    const at::Tensor out = packed_attention(q, k, v, c.layout);
    (out * t.weight.to(at::kFloat)).sum().backward();
    return std::vector{out.detach(), q.grad(), k.grad(), v.grad()};
  };
  const int threads = at::get_num_threads();
  const auto many = run();
  at::set_num_threads(1);
  const auto one = run();
  at::set_num_threads(threads);
  for (size_t i = 0; i < many.size(); ++i) CHECK(at::equal(many[i], one[i]));
}

TEST_CASE("packed attention says what it takes", "[attention]") {
  CHECK(packed_attention_takes(at::kCPU, at::kFloat, 64));
  CHECK(packed_attention_takes(at::kCPU, at::kBFloat16, 16));
  CHECK_FALSE(packed_attention_takes(at::kCPU, at::kDouble, 64));
  CHECK_FALSE(packed_attention_takes(at::kCPU, at::kFloat, 24));
  const Case c = make_case({2}, 1, 1, 16, {3});
  const at::Tensor x = at::randn({2, 16});
  CHECK_THROWS_AS(
      packed_attention(x, x, x, c.layout, at::zeros({1, 1, 3, 8}), at::zeros({1, 1, 3, 8})), Error);
}

}  // namespace
}  // namespace resurface
