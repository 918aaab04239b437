#include <catch2/catch.hpp>

#include "core/tensor/ops.h"
#include "tests/devices.h"

using namespace resurface;

TEST_CASE("A product with a frozen weight's transpose is the product, forward and backward") {
  for (const auto device : devices()) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      const auto options = at::device(device).dtype(type);
      const auto x = at::randn({13, 48}).to(options).requires_grad_(true);
      const auto weight = at::randn({80, 48}).to(options);
      const auto y = frozen_linear(x, weight, weight.t().contiguous());
      const auto wanted = x.detach().to(at::kDouble).mm(weight.to(at::kDouble).t());
      CHECK((y.to(at::kDouble) - wanted).abs().max().item<double>() < 1e-4);
      const auto slope = at::randn_like(y);
      const auto gradient = torch::autograd::grad({(y * slope).sum()}, {x}).at(0);
      const auto expected = slope.to(at::kDouble).mm(weight.to(at::kDouble));
      CHECK((gradient.to(at::kDouble) - expected).abs().max().item<double>() < 1e-4);
    }
  }
}
