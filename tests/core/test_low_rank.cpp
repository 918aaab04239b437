// Low-rank adapters against the formula in fp64, and stacks of them in the decoder against each one
// alone.
#include "core/tensor/low_rank.h"

#include <catch2/catch.hpp>

#include "core/model/model.h"
#include "core/run/error.h"
#include "tests/devices.h"

namespace resurface {
namespace {

struct Case {
  int64_t in, out, rank;
  std::vector<int64_t> starts;
};

// y and the gradients of x, a, b (and the weight) for the sum of y times fixed random numbers.
using Results = std::vector<at::Tensor>;

template <class Layer>
Results run(const Results& inputs, const at::Tensor& seed, const Layer& layer) {
  Results leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.clone().requires_grad_(true));
  const at::Tensor y = layer(leaves[0], leaves[1], leaves[2], leaves[3]);
  (y * seed).sum().backward();
  Results results = {y.detach()};
  for (const at::Tensor& leaf : leaves) results.push_back(leaf.grad());
  return results;
}

TEST_CASE("low-rank layers are the formula, forward and backward", "[low_rank]") {
  // Widths that the kernel takes and some that it leaves to ATen; ranks off the vector's length;
  // groups without rows, of one row and of more than a task's.
  const std::vector<Case> cases = {{32, 48, 16, {0, 70}},
                                   {64, 16, 4, {0, 5, 5, 106, 107}},
                                   {16, 80, 20, {0, 0, 49, 60}},
                                   {24, 40, 3, {0, 7, 7, 20}}};
  for (const at::Device device : devices()) {
    at::manual_seed(5);
    for (const Case& c : cases) {
      const int64_t groups = std::ssize(c.starts) - 1, rows = c.starts.back();
      const auto wide = at::TensorOptions().dtype(at::kDouble);
      const Results exact = {at::randn({rows, c.in}, wide), at::randn({c.out, c.in}, wide),
                             at::randn({groups, c.rank, c.in}, wide),
                             at::randn({groups, c.out, c.rank}, wide)};
      const at::Tensor seed = at::randn({rows, c.out}, wide);
      const double scale = 0.7;
      const auto expected =
          run(exact, seed, [&](const auto& x, const auto& w, const auto& a, const auto& b) {
            std::vector<at::Tensor> parts;
            for (int64_t g = 0; g < groups; ++g) {
              const auto begin = c.starts[static_cast<size_t>(g)];
              const auto own = x.narrow(0, begin, c.starts[static_cast<size_t>(g) + 1] - begin);
              parts.push_back(own.mm(w.t() + scale * b[g].mm(a[g]).t()));
            }
            return at::cat(parts);
          });
      Results inputs;
      for (const at::Tensor& value : exact) inputs.push_back(value.to(device, at::kFloat));
      const auto found = run(inputs, seed.to(device, at::kFloat),
                             [&](const auto& x, const auto& w, const auto& a, const auto& b) {
                               return low_rank_linear(x, w, a, b, scale, c.starts);
                             });
      for (size_t i = 0; i < expected.size(); ++i) {
        INFO("in " << c.in << ", out " << c.out << ", result " << i << " on " << device.str());
        const auto error = (found[i].cpu().to(at::kDouble) - expected[i]).norm().item<double>();
        CHECK(error < 1e-5 * expected[i].norm().item<double>());
      }
      if (groups > 1) continue;
      // One adapter may come without the stack's dimension; its gradients then are without it too.
      inputs[2] = inputs[2][0];
      inputs[3] = inputs[3][0];
      const auto single = run(inputs, seed.to(device, at::kFloat),
                              [&](const auto& x, const auto& w, const auto& a, const auto& b) {
                                return low_rank_linear(x, w, a, b, scale, {0, rows});
                              });
      for (size_t i = 0; i < found.size(); ++i) {
        CHECK(at::equal(single[i], found[i].view_as(single[i])));
      }
    }
  }
}

ModelConfig small() {
  ModelConfig c;
  c.family = "llama";
  c.vocab_size = 40;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.layers = 2;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = 16;
  c.context = 32;
  c.tied_head = true;
  return c;
}

TEST_CASE("each sequence goes through its adapter of the stack", "[low_rank][model]") {
  for (const at::Device device : devices()) {
    for (const auto compute : {at::kFloat, at::kBFloat16}) {
      const at::NoGradGuard no_grad;
      at::manual_seed(6);
      Model model = Model::random(small(), 1, device);
      model.set_compute(compute);
      CHECK(model.stacked_adapters() == 0);
      for (Linear* linear : model.linears()) {
        const auto options = linear->weight.options();
        linear->lora = LoraPair{at::randn({3, 4, linear->weight.size(1)}, options) * 0.1,
                                at::randn({3, linear->weight.size(0), 4}, options) * 0.1, 2};
      }
      CHECK(model.stacked_adapters() == 3);
      std::vector<Example> examples;
      for (int64_t i = 0; i < 5; ++i) {
        examples.push_back({.prompt = {1 + i, 2, 3 * i}, .answer = {7, 11 + i, 4, i}});
        examples.back().answer.resize(static_cast<size_t>(1 + i % 4));
      }
      // Two sequences for the first adapter, none for the second, three for the third.
      Batch batch = pack(examples, device);
      REQUIRE_THROWS_WITH(model.token_logprob(batch), Catch::Contains("3 stacked adapters"));
      REQUIRE_THROWS_WITH(assign_adapters(batch, std::vector<int64_t>{2, 2}),
                          Catch::Contains("4 of the batch's 5"));
      assign_adapters(batch, std::vector<int64_t>{2, 0, 3});
      const at::Tensor together = model.token_logprob(batch).cpu();

      Model alone = model.clone();
      alone.set_compute(compute);
      std::vector<at::Tensor> parts;
      for (const auto& [adapter, begin, count] :
           {std::tuple{int64_t{0}, 0, 2}, std::tuple{int64_t{2}, 2, 3}}) {
        for (size_t l = 0; l < model.linears().size(); ++l) {
          const LoraPair& stack = *model.linears()[l]->lora;
          alone.linears()[l]->lora = LoraPair{stack.a[adapter], stack.b[adapter], stack.scale};
        }
        const auto own = std::span<const Example>(examples).subspan(static_cast<size_t>(begin),
                                                                    static_cast<size_t>(count));
        parts.push_back(alone.token_logprob(pack(own, device)).cpu());
      }
      const double tolerance = compute == at::kFloat ? 1e-5 : 2e-2;
      CHECK(at::allclose(together, at::cat(parts), 0, tolerance));
      CHECK((parts[0][0] - parts[1][0]).abs().item<double>() > 5 * tolerance);
    }
  }
}

}  // namespace
}  // namespace resurface
