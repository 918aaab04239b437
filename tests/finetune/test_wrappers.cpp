#include "finetune/wrappers.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "core/run/seeds.h"
#include "finetune/gradients.h"
#include "finetune/sft.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

const Needs kNeeds{.retain = true};

Loss ascent(Model& model, const ForgetRetainBatch& batch) {
  Loss loss{.forget = -model.token_nll(batch.forget)};
  if (batch.retain.size() > 0) loss.retain = 2 * model.token_nll(batch.retain);
  return loss;
}

struct Setup {
  std::vector<Example> forget = random_examples(6, 3), retain = random_examples(6, 4);
  TrainData data() const { return {.forget = forget, .retain = retain}; }

  Values trained(const Wrap& wrap, int64_t accumulate = 1, int64_t steps = 5,
                 std::vector<Values>* after_steps = nullptr) const {
    TrainerSettings settings = fp32_settings();
    settings.steps = steps;
    settings.batch_size = 4;
    settings.accumulate = accumulate;
    Model model = tiny_model();
    TrainHooks hooks;
    if (after_steps != nullptr) {
      hooks.on_step = [&](const StepReport&) {
        after_steps->push_back(values_of(model));
        return true;
      };
    }
    train(model, ascent, kNeeds, data(), settings, 7, hooks, wrap);
    return values_of(model);
  }
};

/// The gradients that a step leaves with the parameters.
Values step_gradients(const Setup& setup, const Wrap& wrap, int64_t micro_batches = 1) {
  const Objective objective = ascent;
  Model model = tiny_model();
  model.require_grad(true);
  const Values before = values_of(model);
  const AdamW optimizer(model.parameters(), {});
  const TrainData data = setup.data();
  const Reference reference(model, kNeeds, data);
  StepGradients step(model, objective, kNeeds, data, reference, optimizer, wrap, micro_batches, 11);
  step.accumulate({.forget = {0, 1, 2, 3, 4, 5}, .retain = {5, 4, 3, 2, 1, 0}}, 1, 1);
  CHECK(same_bits(values_of(model), before));
  Values found;
  for (const auto& [name, tensor] : model.parameters()) found.push_back(tensor.grad().clone());
  return found;
}

/// Gradients of the forget part where `move` takes the weights, plus those of the retain part where
/// they are.
Values by_hand(const Setup& setup, const std::function<void(const NamedTensors&)>& move) {
  Model model = tiny_model(), moved = tiny_model();
  move(moved.parameters());
  const ForgetRetainBatch batch{.forget = pack(setup.forget), .retain = pack(setup.retain)};
  Values sum = gradients(moved, [&] { return ascent(moved, batch).forget; });
  const Values retain = gradients(model, [&] { return ascent(model, batch).retain; });
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += retain[i];
  return sum;
}

TEST_CASE("SAM takes the forget gradient uphill and the retain gradient in place", "[wrappers]") {
  const Setup setup;
  const double rho = 0.5;
  Model model = tiny_model();
  const Batch forget = pack(setup.forget);
  const Values uphill = gradients(model, [&] { return -model.token_nll(forget); });
  double squares = 0;
  for (const at::Tensor& g : uphill) squares += g.square().sum().item<double>();
  const Values expected = by_hand(setup, [&](const NamedTensors& weights) {
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i].second.add_(uphill[i], rho / std::sqrt(squares));
    }
  });
  const Wrap sam{.sam = SamSettings{.rho = rho}};
  CHECK(distance(step_gradients(setup, sam), expected) < 1e-4);
  CHECK(distance(step_gradients(setup, sam, 3), expected) < 1e-4);
  CHECK(distance(step_gradients(setup, {}), expected) > 1e-2);
}

TEST_CASE("SAM with rho 0 and smoothing with sigma 0 are their base method", "[wrappers]") {
  const Setup setup;
  const Values base = step_gradients(setup, {});
  CHECK(distance(step_gradients(setup, {.sam = SamSettings{.rho = 0}}), base) < 1e-5);
  CHECK(distance(step_gradients(setup, {.rs = SmoothingSettings{.sigma = 0}}), base) < 1e-5);
  CHECK(distance(setup.trained({.sam = SamSettings{.rho = 0}}), setup.trained({})) < 1e-5);
}

TEST_CASE("smoothing averages the forget gradient over draws of the weights", "[wrappers]") {
  const Setup setup;
  const double sigma = 0.02;
  const uint64_t seed = derive_seed(11, "perturbation 1");
  Values expected;
  for (const char* sample : {"sample 0", "sample 1"}) {
    const Values one = by_hand(setup, [&](const NamedTensors& weights) {
      add_noise(weights, sigma, derive_seed(seed, sample));
    });
    if (expected.empty()) {
      expected = one;
    } else {
      for (size_t i = 0; i < one.size(); ++i) expected[i] = (expected[i] + one[i]) / 2;
    }
  }
  const Wrap wrap{.rs = SmoothingSettings{.samples = 2, .sigma = sigma}};
  CHECK(distance(step_gradients(setup, wrap), expected) < 1e-4);
  CHECK(distance(step_gradients(setup, {}), expected) > 1e-3);
}

TEST_CASE("noise has the deviation that was asked for", "[wrappers]") {
  const NamedTensors weights = {{"w", at::zeros({200, 200})}};
  add_noise(weights, 0.3, 5);
  CHECK(weights[0].second.std().item<double>() == Approx(0.3).epsilon(0.02));
  CHECK(std::abs(weights[0].second.mean().item<double>()) < 0.006);
}

TEST_CASE("weight averaging ends with the mean of the last steps' weights", "[wrappers]") {
  const Setup setup;
  std::vector<Values> steps;
  const Wrap late{.average = AveragingSettings{.start = 0.5}};
  const Values averaged = setup.trained(late, 1, 6, &steps);
  REQUIRE(steps.size() == 6);
  Values mean;
  for (size_t i = 0; i < averaged.size(); ++i) {
    mean.push_back((steps[3][i] + steps[4][i] + steps[5][i]) / 3);
  }
  CHECK(distance(averaged, mean) < 1e-6);
  CHECK(distance(averaged, steps[5]) > 1e-4);
  // From the end on it is the last step alone.
  CHECK(same_bits(setup.trained({.average = AveragingSettings{.start = 1}}), setup.trained({})));
}

TEST_CASE("wrapped steps add up over micro-batches", "[wrappers]") {
  const Setup setup;
  const Wrap wrap{.sam = SamSettings{.rho = 0.2}, .average = AveragingSettings{.start = 0.5}};
  CHECK(distance(setup.trained(wrap, 1), setup.trained(wrap, 3)) < 1e-4);
}

TEST_CASE("a list of wrappers", "[wrappers]") {
  const auto parse = [](const char* text) { return read_wrap(Config::parse(text)); };
  const Wrap wrap = parse("[sam, {average: {start: 0.6}}]");
  CHECK(wrap.sam->rho == 0.01);
  CHECK(wrap.average->start == 0.6);
  CHECK_FALSE(wrap.rs);
  CHECK(to_json(parse(to_json(wrap).dump().c_str())) == to_json(wrap));
  CHECK(parse("[]").empty());
  CHECK(parse("[rs]").rs->samples == 3);
  CHECK(parse("[{rs: {sigma: 0.001}}]").rs->sigma == 0.001);
  CHECK_THROWS_WITH(parse("[sma]"), Catch::Contains("unknown wrapper 'sma'; valid: sam, rs"));
  CHECK_THROWS_WITH(parse("[sam, sam]"), Catch::Contains("twice"));
  CHECK_THROWS_WITH(parse("[sam, rs]"), Catch::Contains("leave one out"));
  CHECK_THROWS_AS(parse("[{sam: {rh: 0.1}}]"), ConfigError);
  CHECK_THROWS_AS(parse("[{sam: {rho: -1}}]"), ConfigError);
  CHECK_THROWS_AS(parse("[{sam: {}, average: {}}]"), ConfigError);
}

}  // namespace
}  // namespace resurface
