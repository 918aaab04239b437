#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "finetune/adamw.h"
#include "finetune/lora.h"
#include "finetune/sampler.h"
#include "finetune/sft.h"
#include "tests/devices.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

Objective both_means() {
  // A sequence mean over the forget examples and a token mean over the retain examples.
  return [](Model& model, const ForgetRetainBatch& batch) -> Loss {
    const at::Tensor weight = batch.forget.weight / batch.forget.weight.sum();
    return {.forget = (weight * -model.sequence_logprob(batch.forget)).sum(),
            .retain = 0.5 * model.token_nll(batch.retain)};
  };
}
const Needs both_needs{.retain = true, .reference_logprob = false, .forget_mean = Mean::sequences};

struct Run {
  Values values;
  std::vector<StepReport> reports;
  TrainResult result;
};

Run run(const Objective& objective, const Needs& needs, const TrainerSettings& settings,
        TrainHooks hooks = {}, uint64_t seed = 7, at::Device device = at::kCPU) {
  auto forget = random_examples(11, 3), retain = random_examples(5, 4);
  for (size_t i = 0; i < forget.size(); ++i) forget[i].weight = 0.5 + 0.1 * static_cast<double>(i);
  Model model = tiny_model(1, device);
  Run r;
  const auto inner = hooks.on_step;
  hooks.on_step = [&](const StepReport& report) {
    r.reports.push_back(report);
    return !inner || inner(report);
  };
  r.result = train(model, objective, needs, {forget, retain}, settings, seed, hooks);
  r.values = values_of(model);
  return r;
}

fs::path fresh_file(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / ("resurface_test_" + name);
  fs::remove(path);
  return path;
}

TEST_CASE("ten losses equal those of transformers and torch", "[trainer]") {
  // scripts/golden_training.py
  std::ifstream in(fs::path(RESURFACE_TEST_DATA) / "finetune" / "training.json");
  const auto golden = nlohmann::json::parse(in);
  std::vector<Example> examples;
  for (const auto& e : golden["examples"]) {
    examples.push_back({.prompt = e["prompt"], .answer = e["answer"], .weight = 1, .tags = {}});
  }
  for (const at::Device device : devices()) {
    Model model = Model::load(fs::path(RESURFACE_TEST_DATA) / "model" / "tied", device);
    TrainerSettings settings = fp32_settings();
    settings.learning_rate = golden["learning_rate"];
    settings.schedule = "cosine";
    settings.steps = 10;
    settings.warmup = golden["warmup_steps"].get<double>() / 10;
    settings.weight_decay = golden["weight_decay"];
    settings.clip = golden["clip"];
    settings.beta2 = golden["beta2"];
    size_t step = 0;
    const auto result =
        train(model, sft, sft_needs, {.forget = examples}, settings, 0,
              {.on_step = [&](const StepReport& report) {
                CHECK(report.loss == Approx(golden["losses"][step].get<double>()).epsilon(1e-3));
                CHECK(report.gradient_norm ==
                      Approx(golden["gradient_norms"][step].get<double>()).epsilon(1e-3));
                CHECK(report.learning_rate == Approx(golden["rates"][step].get<double>()));
                ++step;
                return true;
              }});
    CHECK(step == 10);
    CHECK(result.steps == 10);
    CHECK(result.tokens == 560);  // 56 tokens a step
    CHECK(result.flops > 0);
    CHECK(result.stopped == "done");
  }
}

TEST_CASE("the schedules", "[trainer]") {
  TrainerSettings s;
  s.learning_rate = 2;
  s.warmup = 0.2;
  CHECK(learning_rate_at(s, 1, 10) == 1);
  CHECK(learning_rate_at(s, 2, 10) == 2);
  CHECK(learning_rate_at(s, 10, 10) == 2);
  s.schedule = "linear";
  CHECK(learning_rate_at(s, 3, 10) == 2);
  CHECK(learning_rate_at(s, 10, 10) == Approx(2.0 / 8));
  s.schedule = "cosine";
  CHECK(learning_rate_at(s, 3, 10) == 2);
  CHECK(learning_rate_at(s, 7, 10) == Approx(1));
}

TEST_CASE("fused AdamW is Algorithm 2 of the paper", "[adamw]") {
  for (const at::Device device : devices()) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
    const at::Tensor matrix = at::randn({3, 4}, options), vector = at::randn({5}, options),
                     untouched = at::ones({2}, options);
    AdamW optimizer({{"matrix", matrix}, {"vector", vector}, {"untouched", untouched}},
                    {.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.1});
    struct Expected {
      at::Tensor value, m, v;
      double decay;
    };
    std::vector<Expected> expected;
    for (const auto& [value, decay] : {std::pair{matrix, 0.1}, std::pair{vector, 0.0}}) {
      const at::Tensor wide = value.cpu().to(at::kDouble);
      expected.push_back({wide, at::zeros_like(wide), at::zeros_like(wide), decay});
    }
    const double rate = 0.05, divisor = 2.5;
    for (int t = 1; t <= 4; ++t) {
      for (size_t i = 0; i < 2; ++i) {
        const at::Tensor& value = i == 0 ? matrix : vector;
        value.mutable_grad() = at::randn(value.sizes(), options);
        auto& [w, m, v, decay] = expected[i];
        const at::Tensor g = value.grad().cpu().to(at::kDouble) / divisor;
        m = 0.8 * m + 0.2 * g;
        v = 0.9 * v + 0.1 * g * g;
        const at::Tensor m_hat = m / (1 - std::pow(0.8, t)), v_hat = v / (1 - std::pow(0.9, t));
        w = w * (1 - rate * decay) - rate * m_hat / (v_hat.sqrt() + 1e-3);
      }
      const auto version = matrix._version();
      optimizer.step(rate, divisor);
      // The model keeps low-precision copies of the weights by version.
      CHECK(matrix._version() > version);
      optimizer.clear_gradients();
    }
    CHECK(at::allclose(matrix.cpu().to(at::kDouble), expected[0].value, 1e-5, 1e-6));
    CHECK(at::allclose(vector.cpu().to(at::kDouble), expected[1].value, 1e-5, 1e-6));
    CHECK(at::equal(untouched, at::ones({2}, options)));
  }
}

TEST_CASE("each pass over the examples sees each once, in a new order", "[sampler]") {
  const auto forget = random_examples(10, 1), retain = random_examples(7, 2);
  TrainerSettings settings;
  settings.batch_size = 4;
  settings.epochs = 3;
  Sampler sampler({forget, retain}, settings, true, 5);
  CHECK(sampler.total_steps() == 9);
  std::vector<std::vector<int64_t>> passes(3);
  std::vector<int64_t> drawn;
  for (auto& pass : passes) {
    for (const size_t size : {4U, 4U, 2U}) {
      const StepExamples step = sampler.next();
      CHECK(step.forget.size() == size);
      CHECK(step.retain.size() == size);
      pass.insert(pass.end(), step.forget.begin(), step.forget.end());
      drawn.insert(drawn.end(), step.retain.begin(), step.retain.end());
    }
  }
  CHECK(passes[0] != passes[1]);
  CHECK(passes[1] != passes[2]);
  std::vector<int64_t> all(10), all_retain(7);
  std::iota(all.begin(), all.end(), 0);
  std::iota(all_retain.begin(), all_retain.end(), 0);
  for (auto pass : passes) {
    std::sort(pass.begin(), pass.end());
    CHECK(pass == all);
  }
  for (size_t pass = 0; pass < 4; ++pass) {  // 28 of the 30 drawn
    std::vector<int64_t> seen(drawn.begin() + static_cast<int64_t>(pass * 7),
                              drawn.begin() + static_cast<int64_t>(pass * 7 + 7));
    std::sort(seen.begin(), seen.end());
    CHECK(seen == all_retain);
  }
}

TEST_CASE("batch_tokens bounds the tokens of a step and loses no example", "[sampler]") {
  const auto forget = random_examples(23, 1), retain = random_examples(7, 2);
  TrainerSettings settings;
  settings.batch_tokens = 40;
  settings.epochs = 2;
  Sampler sampler({forget, retain}, settings, true, 5);
  std::map<int64_t, int> seen;
  const int64_t steps = sampler.total_steps();
  bool several = false;
  for (int64_t i = 0; i < steps; ++i) {
    const StepExamples step = sampler.next();
    int64_t tokens = 0;
    for (const int64_t index : step.forget) {
      tokens += forget[static_cast<size_t>(index)].size();
      ++seen[index];
    }
    for (const int64_t index : step.retain) tokens += retain[static_cast<size_t>(index)].size();
    CHECK((tokens <= 40 || step.forget.size() == 1));
    CHECK(step.forget.size() == step.retain.size());
    several = several || step.forget.size() > 1;
  }
  CHECK(several);
  CHECK(seen.size() == 23);
  for (const auto& [index, count] : seen) CHECK(count == 2);
}

TEST_CASE("micro-batches add up to the undivided step", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.batch_size = 6;
  settings.steps = 5;
  const Run whole = run(both_means(), both_needs, settings);
  settings.accumulate = 4;
  const Run split = run(both_means(), both_needs, settings);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(split.reports[i].loss == Approx(whole.reports[i].loss).epsilon(1e-5));
    CHECK(split.reports[i].gradient_norm == Approx(whole.reports[i].gradient_norm).epsilon(1e-4));
    CHECK(split.reports[i].tokens == whole.reports[i].tokens);
  }
  CHECK(distance(whole.values, values_of(tiny_model())) > 1e-3);
  CHECK(distance(whole.values, split.values) < 1e-4);
}

TEST_CASE("leaving examples out changes neither the order nor the other examples", "[trainer]") {
  auto examples = random_examples(6, 3);
  const std::vector<char> leave_out = {0, 1, 0, 0, 1, 0};
  TrainerSettings settings = fp32_settings();
  settings.batch_size = 2;
  settings.epochs = 4;
  std::vector<std::vector<int64_t>> all, kept;
  const auto record = [](auto& seen) -> Objective {
    return [&seen](Model& model, const ForgetRetainBatch& batch) {
      for (const int64_t length : batch.forget.lengths) seen.back().push_back(length);
      return sft(model, batch);
    };
  };
  for (size_t i = 0; i < examples.size(); ++i) {  // lengths tell the examples apart
    examples[i].prompt.assign(1 + i, 3);
    examples[i].answer.assign(1, 4);
  }
  for (auto* seen : {&all, &kept}) {
    Model model = tiny_model();
    seen->emplace_back();
    TrainData data{.forget = examples};
    if (seen == &kept) data.leave_out = leave_out;
    const auto result = train(model, record(*seen), sft_needs, data, settings, 7,
                              {.on_step = [&](const StepReport&) {
                                seen->emplace_back();
                                return true;
                              }});
    CHECK(result.steps == 12);
  }
  std::vector<int64_t> expected, found;
  for (const auto& step : all) {
    for (const int64_t length : step) {
      if (leave_out[static_cast<size_t>(length - 1)] == 0) expected.push_back(length);
    }
  }
  for (const auto& step : kept) found.insert(found.end(), step.begin(), step.end());
  CHECK(found == expected);
  CHECK(found.size() == 16);
}

TEST_CASE("checkpointing changes nothing", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.steps = 3;
  const Run plain = run(both_means(), both_needs, settings);
  settings.checkpointing = true;
  const Run recomputed = run(both_means(), both_needs, settings);
  CHECK(distance(plain.values, recomputed.values) < 1e-6);
}

TEST_CASE("the same seed gives the same bits, another seed does not", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.steps = 3;
  settings.batch_size = 4;
  const Run first = run(both_means(), both_needs, settings);
  CHECK(same_bits(first.values, run(both_means(), both_needs, settings).values));
  CHECK_FALSE(same_bits(first.values, run(both_means(), both_needs, settings, {}, 8).values));
}

TEST_CASE("a resumed run ends bit for bit where an uninterrupted one does", "[trainer]") {
  for (const std::string reach : {"full", "lora"}) {
    TrainerSettings settings = fp32_settings();
    settings.reach = reach;
    settings.lora.rank = 3;
    settings.steps = 9;
    settings.batch_tokens = 60;
    settings.schedule = "cosine";
    settings.warmup = 0.3;
    Needs needs = both_needs;
    needs.reference_logprob = true;
    const Objective objective = [](Model& model, const ForgetRetainBatch& batch) -> Loss {
      const at::Tensor gap = model.sequence_logprob(batch.forget) - batch.forget.reference_logprob;
      return {.forget = gap.square().mean() + gap.mean(), .retain = model.token_nll(batch.retain)};
    };
    const auto adapters = [](Model& model) {
      Values values = values_of(model);
      for (const Linear* linear : model.linears()) {
        if (!linear->lora) continue;
        values.push_back(linear->lora->a.detach().clone());
        values.push_back(linear->lora->b.detach().clone());
      }
      return values;
    };
    const auto forget = random_examples(11, 3), retain = random_examples(5, 4);
    const TrainData data{forget, retain};
    Model whole = tiny_model();
    const auto expected = train(whole, objective, needs, data, settings, 7);

    const fs::path state = fresh_file("resume_" + reach);
    {
      Model model = tiny_model();
      // Killed in step 6: the exception leaves the file of step 4.
      REQUIRE_THROWS_AS(train(model, objective, needs, data, settings, 7,
                              {.on_step =
                                   [](const StepReport& report) {
                                     if (report.step == 6) throw std::runtime_error("killed");
                                     return true;
                                   },
                               .state = state,
                               .state_every = 4}),
                        std::runtime_error);
    }
    REQUIRE(fs::exists(state));
    Model model = tiny_model();
    TrainerSettings other = settings;
    other.learning_rate *= 2;
    Model refused = tiny_model();
    REQUIRE_THROWS_WITH(train(refused, objective, needs, data, other, 7, {.state = state}),
                        Catch::Contains("other settings, data or seed"));
    std::vector<int64_t> steps;
    const auto result = train(model, objective, needs, data, settings, 7,
                              {.on_step =
                                   [&](const StepReport& report) {
                                     steps.push_back(report.step);
                                     return true;
                                   },
                               .state = state,
                               .state_every = 4});
    CHECK(steps == std::vector<int64_t>{5, 6, 7, 8, 9});
    CHECK(same_bits(adapters(model), adapters(whole)));
    CHECK(result.tokens == expected.tokens);
    CHECK(result.flops == Approx(expected.flops));
    CHECK(result.last_loss == expected.last_loss);
    CHECK_FALSE(fs::exists(state));
  }
}

TEST_CASE("Ctrl-C ends after the step and keeps the state", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.steps = 6;
  const Run whole = run(both_means(), both_needs, settings);
  const fs::path state = fresh_file("interrupt");
  REQUIRE_THROWS_AS(run(both_means(), both_needs, settings,
                        {.on_step =
                             [](const StepReport& report) {
                               if (report.step == 3) set_interrupted(true);
                               return true;
                             },
                         .state = state}),
                    Interrupted);
  set_interrupted(false);
  REQUIRE(fs::exists(state));
  const Run rest = run(both_means(), both_needs, settings, {.state = state});
  CHECK(rest.reports.size() == 3);
  CHECK(same_bits(rest.values, whole.values));
}

TEST_CASE("a loss that is not finite stops before the update", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.steps = 2;
  settings.batch_size = 11;
  const Run good = run(sft, sft_needs, settings);
  settings.steps = 5;
  const auto forget = random_examples(11, 3);
  std::vector<Example> weighted = forget;
  for (size_t i = 0; i < weighted.size(); ++i)
    weighted[i].weight = 0.5 + 0.1 * static_cast<double>(i);
  Model model = tiny_model();
  int64_t calls = 0;
  const Objective breaks = [&](Model& m, const ForgetRetainBatch& batch) {
    Loss loss = sft(m, batch);
    if (++calls == 3) loss.forget = loss.forget * std::numeric_limits<double>::quiet_NaN();
    return loss;
  };
  REQUIRE_THROWS_WITH(train(model, breaks, sft_needs, {.forget = weighted}, settings, 7),
                      Catch::Contains("step 3 of 5") && Catch::Contains("loss nan") &&
                          Catch::Contains("learning rate 0.001") &&
                          Catch::Contains("as after step 2"));
  CHECK(same_bits(values_of(model), good.values));
  for (const auto& [name, value] : model.parameters()) {
    CHECK_FALSE(value.requires_grad());
    CHECK_FALSE(value.grad().defined());
  }
}

TEST_CASE("stopping early and by callback", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.steps = 50;
  settings.learning_rate = 0.01;
  settings.stop_below = 2.5;
  const Run early = run(sft, sft_needs, settings);
  CHECK(early.result.stopped == "early");
  CHECK(early.result.last_loss < 2.5);
  for (size_t i = 0; i + 1 < early.reports.size(); ++i) CHECK(early.reports[i].loss >= 2.5);
  settings.stop_below = 0;
  const Run called = run(sft, sft_needs, settings,
                         {.on_step = [](const StepReport& report) { return report.step < 4; }});
  CHECK(called.result.stopped == "callback");
  CHECK(called.result.steps == 4);
}

TEST_CASE("clipping bounds what the optimiser sees", "[trainer]") {
  // One step of AdamW with a huge epsilon is plain gradient descent of rate lr / epsilon.
  TrainerSettings settings = fp32_settings();
  settings.steps = 1;
  settings.batch_size = 11;
  settings.epsilon = 1e6;
  settings.learning_rate = 1e4;
  settings.clip = 0.5;
  const Run clipped = run(sft, sft_needs, settings);
  REQUIRE(clipped.reports[0].gradient_norm > 0.5);
  double squares = 0;
  const Values start = values_of(tiny_model());
  for (size_t i = 0; i < start.size(); ++i) {
    squares += (clipped.values[i] - start[i]).to(at::kDouble).square().sum().item<double>();
  }
  CHECK(std::sqrt(squares) == Approx(0.5 * 1e4 / 1e6).epsilon(1e-3));
}

TEST_CASE("bf16 compute follows fp32 and moves the fp32 masters", "[trainer]") {
  TrainerSettings settings = fp32_settings();
  settings.steps = 30;
  settings.batch_size = 11;
  settings.learning_rate = 3e-3;
  const Run wide = run(sft, sft_needs, settings);
  settings.compute = "bf16";
  const Run narrow = run(sft, sft_needs, settings);
  CHECK(narrow.values[0].scalar_type() == at::kFloat);
  CHECK(narrow.reports.back().loss < 0.6 * narrow.reports.front().loss);
  for (size_t i = 0; i < 30; i += 5) {
    CHECK(narrow.reports[i].loss == Approx(wide.reports[i].loss).epsilon(0.05));
  }
}

TEST_CASE("examples that cannot be trained on are refused by name", "[trainer]") {
  Model model = tiny_model();
  const auto refused = [&](std::vector<Example> forget, const std::string& text) {
    REQUIRE_THROWS_WITH(train(model, sft, sft_needs, {.forget = forget}, fp32_settings(), 0),
                        Catch::Contains(text));
  };
  auto examples = random_examples(3, 1);
  refused({}, "no examples");
  examples[1].answer.clear();
  refused(examples, "example 1 has an empty answer");
  examples[1].answer.assign(70, 1);
  refused(examples, "the model's context is 64");
  examples = random_examples(3, 1);
  examples[2].weight = 0;
  refused(examples, "example 2 has weight 0");
  examples = random_examples(3, 1);
  REQUIRE_THROWS_WITH(
      train(model, both_means(), both_needs, {.forget = examples}, fp32_settings(), 0),
      Catch::Contains("needs retain examples"));
}

TEST_CASE("a loss without a gradient is refused", "[trainer]") {
  REQUIRE_THROWS_WITH(run(
                          [](Model& model, const ForgetRetainBatch& batch) -> Loss {
                            return {.forget = model.token_nll(batch.forget).detach()};
                          },
                          sft_needs, fp32_settings()),
                      Catch::Contains("depends on none of the trained parameters"));
}

TEST_CASE("reference log-probs are those of the start, whatever the batches", "[trainer]") {
  const auto forget = random_examples(11, 3);
  Model model = tiny_model();
  const at::Tensor all = reference_logprobs(model, forget);
  for (size_t i = 0; i < forget.size(); ++i) {
    const at::NoGradGuard no_grad;
    const Batch one = pack(std::span(forget).subspan(i, 1));
    CHECK(all[static_cast<int64_t>(i)].item<double>() ==
          Approx(model.sequence_logprob(one).item<double>()).epsilon(1e-5));
  }
  // In training they come with the examples they belong to, and stay when the model has moved.
  TrainerSettings settings = fp32_settings();
  settings.steps = 4;
  settings.batch_size = 3;
  settings.accumulate = 2;
  const Model start = tiny_model();
  train(
      model,
      [&](Model& m, const ForgetRetainBatch& batch) -> Loss {
        const at::NoGradGuard no_grad;
        CHECK(at::allclose(batch.forget.reference_logprob, start.sequence_logprob(batch.forget),
                           1e-5, 1e-5));
        const at::AutoGradMode grad(true);
        return {.forget = m.token_nll(batch.forget)};
      },
      {.retain = false, .reference_logprob = true}, {.forget = forget}, settings, 1);
}

}  // namespace
}  // namespace resurface
