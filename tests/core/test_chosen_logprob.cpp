#include <catch2/catch.hpp>

#include "core/tensor/ops.h"
#include "tests/devices.h"

using namespace resurface;

namespace {

/// The definition, in fp64: the value and the gradient of its weighted sum.
std::pair<at::Tensor, at::Tensor> expected(const at::Tensor& logits, const at::Tensor& ids,
                                           const at::Tensor& weight) {
  const auto x = logits.detach().to(at::kDouble);
  const auto p = x.softmax(1);
  const auto chosen = at::one_hot(ids, x.size(1)).to(at::kDouble);
  return {(p.log() * chosen).sum(1), weight.to(at::kDouble).unsqueeze(1) * (chosen - p)};
}

}  // namespace

TEST_CASE("Log-probs of chosen tokens, and their gradients") {
  for (const auto device : devices()) {
    for (const auto type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      for (const int64_t size : {1, 7, 16, 1000}) {
        at::manual_seed(static_cast<uint64_t>(size));
        const auto options = at::device(device).dtype(type);
        const auto logits = (at::randn({5, size}) * 6).to(options).requires_grad_(true);
        const auto ids = at::randint(size, {5}, at::kLong).to(device);
        const auto weight = at::randn({5}).to(device);
        const auto found = chosen_logprob(logits, ids);
        CHECK(found.scalar_type() == (type == at::kDouble ? at::kDouble : at::kFloat));
        const auto loss = (found * weight.to(found.scalar_type())).sum();
        const auto gradient = torch::autograd::grad({loss}, {logits}).at(0);
        const auto [value, slope] = expected(logits, ids, weight);
        INFO(c10::toString(type) << " " << size);
        CHECK((found.to(at::kDouble) - value).abs().max().item<double>() < 1e-5);
        CHECK((gradient.to(at::kDouble) - slope).abs().max().item<double>() <
              (type == at::kBFloat16 ? 8e-3 : 2e-6));
      }
    }
  }
}

TEST_CASE("The likeliest token is the first of the highest logits") {
  for (const auto device : devices()) {
    for (const auto type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      for (const int64_t size : {1, 7, 16, 33, 1000}) {
        at::manual_seed(static_cast<uint64_t>(size));
        // Few values, so that most rows have their highest several times.
        const auto logits = at::randint(-4, 3, {50, size}).to(type).to(device);
        const auto found = likeliest(logits).cpu();
        CHECK(found.equal(logits.cpu().to(at::kDouble).argmax(1)));
        CHECK(found.equal(likeliest(logits.to(at::kFloat) - 100).cpu()));
      }
    }
  }
}

TEST_CASE("A logit that is not a number makes its own row's log-prob one, and no other") {
  auto logits = at::zeros({3, 40});
  logits[1][33] = std::nan("");
  const auto found = chosen_logprob(logits, at::zeros({3}, at::kLong));
  CHECK(found.isnan().equal(at::tensor({0, 1, 0}).to(at::kBool)));
}
