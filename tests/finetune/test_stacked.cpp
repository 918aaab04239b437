// Runs in a stack against the same runs alone.
#include "finetune/stacked.h"

#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "finetune/lora.h"
#include "finetune/sft.h"
#include "tests/devices.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

constexpr double kAbsurd = 1e30;
const std::vector<Example> kOther = random_examples(7, 5);
const std::vector<StackedRun> kRuns = {
    {1e-3, 1}, {3e-2, 1}, {kAbsurd, 2}, {1e-2, 3}, {1e-2, 4, "cosine", kOther}};

TrainerSettings settings_of_runs() {
  TrainerSettings settings = fp32_settings();
  settings.reach = "lora";
  settings.lora = {.rank = 4, .alpha = 8};
  settings.steps = 8;
  settings.batch_size = 4;
  settings.schedule = "linear";
  settings.clip = 0.5;
  settings.weight_decay = 0.1;
  return settings;
}

std::vector<Example> weighted_examples() {
  auto examples = random_examples(11, 3);  // the last batch of a pass is smaller
  for (size_t i = 0; i < examples.size(); ++i)
    examples[i].weight = 0.5 + 0.1 * static_cast<double>(i);
  return examples;
}

struct Alone {
  std::vector<StepReport> reports;
  TrainResult result;
  Values adapters, fresh;
  bool threw = false;
};

/// `until`: the step after which the hook stops the run.
Alone alone(const StackedRun& run, int64_t until, at::Device device) {
  Model model = tiny_model(1, device);
  TrainerSettings settings = settings_of_runs();
  settings.learning_rate = run.learning_rate;
  if (!run.schedule.empty()) settings.schedule = run.schedule;
  const auto examples = run.examples.empty() ? weighted_examples() : kOther;
  Alone found;
  attach_lora(model, settings.lora, run.seed);
  for (const Linear* linear : model.linears()) {
    found.fresh.push_back(linear->lora->a.detach().clone());
    found.fresh.push_back(linear->lora->b.detach().clone());
  }
  detach_lora(model);
  try {
    found.result = train(model, sft, sft_needs, {.forget = examples}, settings, run.seed,
                         {.on_step = [&](const StepReport& report) {
                           found.reports.push_back(report);
                           return report.step < until;
                         }});
  } catch (const Error&) {
    found.threw = true;
  }
  for (const Linear* linear : model.linears()) {
    found.adapters.push_back(linear->lora->a.detach());
    found.adapters.push_back(linear->lora->b.detach());
  }
  return found;
}

TEST_CASE("each run of a stack ends as it does alone", "[stacked]") {
  const int64_t leaver = 3, leaves_after = 3;
  for (const at::Device device : devices()) {
    Model model = tiny_model(1, device);
    const Values before = values_of(model);
    const auto examples = weighted_examples();
    std::vector<std::vector<StackedStep>> seen(kRuns.size());
    const auto results =
        train_stacked(model, kRuns, examples, settings_of_runs(),
                      {.on_step = [&](std::span<const StackedStep> steps) {
                        CHECK(model.stacked_adapters() == std::ssize(kRuns));
                        std::vector<bool> go_on;
                        for (const StackedStep& step : steps) {
                          seen[step.run].push_back(step);
                          go_on.push_back(step.run != leaver || step.report.step < leaves_after);
                        }
                        return go_on;
                      }});
    REQUIRE(results.size() == kRuns.size());
    for (size_t r = 0; r < kRuns.size(); ++r) {
      INFO("run " << r << " on " << device.str());
      const Alone solo = alone(kRuns[r], r == leaver ? leaves_after : 100, device);
      const TrainResult& own = results[r].train;
      CHECK(solo.threw == (kRuns[r].learning_rate == kAbsurd));
      CHECK(own.stopped == (solo.threw ? "diverged" : solo.result.stopped));
      REQUIRE(seen[r].size() == solo.reports.size());
      for (size_t s = 0; s < seen[r].size(); ++s) {
        const StepReport &mine = seen[r][s].report, &expected = solo.reports[s];
        CHECK(mine.step == expected.step);
        CHECK(mine.loss == Approx(expected.loss).epsilon(1e-5));
        CHECK(mine.gradient_norm == Approx(expected.gradient_norm).epsilon(1e-4));
        CHECK(mine.learning_rate == expected.learning_rate);
        CHECK(mine.tokens == expected.tokens);
      }
      if (solo.threw) continue;
      CHECK(own.steps == solo.result.steps);
      CHECK(own.tokens == solo.result.tokens);
      CHECK(own.flops == Approx(solo.result.flops).epsilon(1e-12));
      REQUIRE(results[r].adapters.size() == solo.adapters.size());
      for (size_t i = 0; i < solo.adapters.size(); ++i) {
        const auto& [name, value] = results[r].adapters[i];
        INFO(name);
        const auto norm = [](const at::Tensor& x) { return x.norm().item<double>(); };
        CHECK(norm(solo.adapters[i] - solo.fresh[i]) > 1e-4);
        CHECK(norm(value - solo.adapters[i]) < 1e-4 * norm(solo.adapters[i] - solo.fresh[i]));
      }
    }
    CHECK(same_bits(values_of(model), before));
    CHECK(model.stacked_adapters() == 0);
    CHECK_FALSE(model.linears()[0]->lora.has_value());
    CHECK(results[2].adapters[0].first == "model.layers.0.self_attn.q_proj.lora_A");
  }
}

TEST_CASE("a stack is taken off whatever happens", "[stacked]") {
  Model model = tiny_model();
  const auto examples = weighted_examples();
  REQUIRE_THROWS_AS(train_stacked(model, kRuns, examples, settings_of_runs(),
                                  {.on_step =
                                       [](std::span<const StackedStep> steps) {
                                         set_interrupted(true);
                                         return std::vector<bool>(steps.size(), true);
                                       }}),
                    Interrupted);
  set_interrupted(false);
  CHECK_FALSE(model.linears()[0]->lora.has_value());
  CHECK_FALSE(model.parameters()[1].second.requires_grad());
  CHECK(train_stacked(model, {}, examples, settings_of_runs()).empty());
  attach_lora(model, {}, 1);
  REQUIRE_THROWS_WITH(train_stacked(model, kRuns, examples, settings_of_runs()),
                      Catch::Contains("has an adapter already"));
}

TEST_CASE("a stack's size falls with the model's", "[stacked]") {
  const auto examples = weighted_examples();
  TrainerSettings settings = settings_of_runs();
  const Model model = tiny_model();
  CHECK(stack_size(model, examples, settings) > 12);
  settings.batch_tokens = int64_t{1} << 40;
  CHECK(stack_size(model, examples, settings) == 1);
}

}  // namespace
}  // namespace resurface
