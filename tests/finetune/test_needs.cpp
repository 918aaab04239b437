// What methods may ask of the trainer beyond examples: the model as it was before training, other
// answers, a constraint, parameters that stay.
#include <catch2/catch.hpp>
#include <fstream>

#include "core/run/error.h"
#include "finetune/reference.h"
#include "finetune/sft.h"
#include "tests/devices.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

struct Setup {
  std::vector<Example> forget = random_examples(7, 3), retain = random_examples(5, 4);
  std::vector<Example> alternative = random_examples(7, 5);
  TrainData data() const {
    return {.forget = forget, .retain = retain, .alternative = alternative};
  }
};

TEST_CASE("what is kept is what the model said before training", "[reference]") {
  for (const at::Device device : devices()) {
    for (const std::string reach : {"full", "lora"}) {
      Setup setup;
      TrainerSettings settings = fp32_settings();
      settings.reach = reach;
      settings.steps = 4;
      settings.batch_size = 3;
      settings.accumulate = 2;
      settings.learning_rate = 1e-2;
      const Model before = tiny_model(1, device);
      const at::Tensor forget = reference_logprobs(before, setup.forget);
      const Needs needs{.retain = true,
                        .reference_logprob = true,
                        .alternative = true,
                        .forget_logits = true,
                        .retain_logits = true,
                        .retain_block = 0};
      int64_t seen = 0;
      const auto check = [&](const Batch& batch) {
        const at::NoGradGuard no_grad;
        const at::Tensor rows = before.hidden(batch, {.rows = batch.rows});
        if (batch.reference_logits.defined()) {
          CHECK(at::allclose(batch.reference_logits, before.logits(rows), 1e-5, 1e-5));
        }
        if (batch.reference_hidden.defined()) {
          const at::Tensor hidden = before.hidden(batch, {.last = 1, .rows = batch.rows});
          CHECK(at::allclose(batch.reference_hidden, hidden, 1e-5, 1e-5));
        }
        if (batch.reference_logprob.defined()) {
          CHECK(at::allclose(batch.reference_logprob, before.sequence_logprob(batch), 1e-5, 1e-4));
        }
      };
      const Objective objective = [&](Model& model, const ForgetRetainBatch& batch) -> Loss {
        REQUIRE(batch.forget.reference_logits.defined());
        REQUIRE(batch.retain.reference_logits.defined());
        REQUIRE(batch.retain.reference_hidden.defined());
        REQUIRE(batch.alternative.reference_logprob.defined());
        for (const Batch* part : {&batch.forget, &batch.alternative, &batch.retain}) check(*part);
        ++seen;
        return {.forget = model.token_nll(batch.forget), .retain = model.token_nll(batch.retain)};
      };
      Model model = tiny_model(1, device);
      train(model, objective, needs, setup.data(), settings, 1);
      CHECK(seen == 7);  // steps of 3, 3, 1 and 3 examples, in two parts each where there are two
    }
  }
}

TEST_CASE("the constraint's multiplier follows the whole step's retain loss", "[dual]") {
  const Setup setup;
  Needs needs{.retain = true, .dual = Dual{.bound = 4, .rate = 0.7, .start = 2}};
  TrainerSettings settings = fp32_settings();
  settings.steps = 6;
  settings.batch_size = 5;
  const auto run = [&](int64_t accumulate) {
    settings.accumulate = accumulate;
    std::vector<StepReport> reports;
    Model model = tiny_model();
    train(model,
          [](Model& m, const ForgetRetainBatch& batch) -> Loss {
            return {.forget = -m.token_nll(batch.forget), .retain = m.token_nll(batch.retain)};
          },
          needs, setup.data(), settings, 1, {.on_step = [&](const StepReport& report) {
            reports.push_back(report);
            return true;
          }});
    return std::pair{reports, values_of(model)};
  };
  const auto [reports, values] = run(1);
  double multiplier = 2;
  for (const StepReport& report : reports) {
    CHECK(report.multiplier == Approx(multiplier));
    CHECK(report.loss == Approx(report.forget + multiplier * report.retain));
    multiplier = std::max(0.0, multiplier + 0.7 * (report.retain - 4));
  }
  CHECK(multiplier != Approx(2));
  const auto [split_reports, split] = run(3);
  CHECK(split_reports.back().multiplier == Approx(reports.back().multiplier));
  CHECK(distance(values, split) < 1e-4);

  // With a rate of 0 it is a weight.
  needs.dual = Dual{.bound = 4, .rate = 0, .start = 2};
  const Values fixed = run(1).second;
  Model model = tiny_model();
  settings.accumulate = 1;
  train(
      model,
      [](Model& m, const ForgetRetainBatch& batch) -> Loss {
        return {.forget = -m.token_nll(batch.forget), .retain = 2 * m.token_nll(batch.retain)};
      },
      {.retain = true}, setup.data(), settings, 1);
  CHECK(distance(values_of(model), fixed) < 1e-6);
}

TEST_CASE("only what is named trains", "[trains]") {
  const Setup setup;
  for (const std::string reach : {"full", "lora"}) {
    TrainerSettings settings = fp32_settings();
    settings.steps = 2;
    settings.reach = reach;
    Model model = tiny_model();
    const Values before = values_of(model);
    const std::string chosen = "model.layers.1.mlp.down_proj.weight";
    train(model, sft, {.trains = {chosen}}, setup.data(), settings, 1);
    for (size_t i = 0; i < before.size(); ++i) {
      const auto& [name, value] = model.parameters()[i];
      CHECK(at::equal(value, before[i]) == (name != chosen || reach == "lora"));
    }
    if (reach == "full") continue;
    for (const Linear* linear : model.linears()) {
      const bool moved = linear->lora->b.abs().max().item<double>() > 0;
      CHECK(moved == (linear->name + ".weight" == chosen));
    }
  }
  Model model = tiny_model();
  REQUIRE_THROWS_WITH(train(model, sft, {.trains = {"model.layers.9.mlp.down_proj.weight"}},
                            setup.data(), fp32_settings(), 1),
                      Catch::Contains("model.layers.9.mlp.down_proj.weight"));
}

TEST_CASE("everything that a run goes on from is in its state", "[resume]") {
  const Setup setup;
  const Needs needs{.retain = true,
                    .reference_logprob = true,
                    .alternative = true,
                    .retain_logits = true,
                    .dual = Dual{.bound = 1, .rate = 0.3, .start = 1},
                    .negate = 0.5};
  const Objective objective = [](Model& model, const ForgetRetainBatch& batch) -> Loss {
    const at::Tensor gap = model.sequence_logprob(batch.forget) - batch.forget.reference_logprob;
    Loss loss{.forget = gap.square().mean() + gap.mean(),
              .alternative = (model.token_logprob(batch.alternative).sum() -
                              batch.alternative.reference_logprob.sum()) /
                             100};
    if (batch.retain.size() > 0) {
      const at::Tensor logits =
          model.logits(model.hidden(batch.retain, {.rows = batch.retain.rows}));
      loss.retain = (logits - batch.retain.reference_logits).square().mean();
    }
    return loss;
  };
  const Wrap wrap{.sam = SamSettings{.rho = 0.1}, .average = AveragingSettings{.start = 0.3}};
  TrainerSettings settings = fp32_settings();
  settings.steps = 8;
  settings.batch_size = 3;
  Model whole = tiny_model();
  const auto expected = train(whole, objective, needs, setup.data(), settings, 7, {}, wrap);
  const fs::path state = fs::temp_directory_path() / "resurface_test_needs_state";
  fs::remove(state);
  Model killed = tiny_model();
  REQUIRE_THROWS_AS(train(killed, objective, needs, setup.data(), settings, 7,
                          {.on_step =
                               [](const StepReport& report) {
                                 if (report.step == 6) throw std::runtime_error("killed");
                                 return true;
                               },
                           .state = state,
                           .state_every = 5},
                          wrap),
                    std::runtime_error);
  Model refused = tiny_model();
  REQUIRE_THROWS_WITH(
      train(refused, objective, needs, setup.data(), settings, 7, {.state = state}, {}),
      Catch::Contains("other settings, data or seed"));
  Model model = tiny_model();
  const auto result =
      train(model, objective, needs, setup.data(), settings, 7, {.state = state}, wrap);
  CHECK(same_bits(values_of(model), values_of(whole)));
  CHECK(result.flops == Approx(expected.flops));
  CHECK(result.last_loss == expected.last_loss);
}

TEST_CASE("alternative answers must be one each", "[trainer]") {
  Setup setup;
  setup.alternative.pop_back();
  Model model = tiny_model();
  REQUIRE_THROWS_WITH(train(model, sft, {.alternative = true}, setup.data(), fp32_settings(), 1),
                      Catch::Contains("6 alternative answers for 7 examples"));
  setup.alternative.push_back({.prompt = {1}, .answer = {}, .tags = {}});
  REQUIRE_THROWS_WITH(train(model, sft, {.alternative = true}, setup.data(), fp32_settings(), 1),
                      Catch::Contains("alternative example 6 has an empty answer"));
}

}  // namespace
}  // namespace resurface
