#include <catch2/catch.hpp>
#include <set>

#include "finetune/sft.h"
#include "tests/devices.h"
#include "tests/unlearning/world.h"
#include "unlearning/ga.h"
#include "unlearning/grad_diff.h"
#include "unlearning/npo.h"

namespace resurface {
namespace {

/// Summed NLL of an answer, by hand: the whole sequence alone, softmax over all its rows in fp64.
double nll(const Model& model, const Example& example) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> ids = example.prompt;
  ids.insert(ids.end(), example.answer.begin(), example.answer.end());
  const std::vector<std::vector<int64_t>> sequences = {ids};
  const at::Tensor logits = model.logits(model.hidden(pack_sequences(sequences, model.device())));
  const at::Tensor logp = logits.cpu().to(at::kDouble).log_softmax(-1);
  double sum = 0;
  for (size_t i = example.prompt.size(); i < ids.size(); ++i) {
    sum -= logp[static_cast<int64_t>(i) - 1][ids[i]].item<double>();
  }
  return sum;
}

/// Weighted token mean of the NLL, by hand.
double token_mean(const Model& model, const std::vector<Example>& examples) {
  double sum = 0, count = 0;
  for (const Example& example : examples) {
    sum += example.weight * nll(model, example);
    count += example.weight * static_cast<double>(example.answer.size());
  }
  return sum / count;
}

TEST_CASE("losses equal their formulas: answer tokens alone, no prompt, no padding",
          "[unlearning]") {
  for (const at::Device device : devices()) {
    World w(device);
    const auto batch = w.batch_for(NpoSettings{});
    const at::NoGradGuard no_grad;
    const double forget = token_mean(w.model, w.forget), retain = token_mean(w.model, w.retain);
    CHECK(sft(w.model, batch).total().item<double>() == Approx(forget).epsilon(1e-5));
    CHECK(gradient_ascent({}, w.model, batch).total().item<double>() ==
          Approx(-forget).epsilon(1e-5));
    const Loss diff = grad_diff({.forget_weight = 0.7, .retain_weight = 2}, w.model, batch);
    CHECK(diff.forget.item<double>() == Approx(-0.7 * forget).epsilon(1e-5));
    CHECK(diff.retain.item<double>() == Approx(2 * retain).epsilon(1e-5));

    const double beta = 0.3;
    double sum = 0, weights = 0;
    for (const Example& example : w.forget) {
      const double gap = nll(w.model, example) - nll(w.reference, example);
      sum += example.weight * std::log(1 / (1 + std::exp(-beta * gap)));
      weights += example.weight;
    }
    const Loss loss = npo({.beta = beta, .forget_weight = 0.7, .retain_weight = 2}, w.model, batch);
    CHECK(loss.forget.item<double>() == Approx(0.7 * -2 / beta * sum / weights).epsilon(1e-4));
    CHECK(loss.retain.item<double>() == Approx(2 * retain).epsilon(1e-5));
  }
}

TEST_CASE("the gradient of NPO is the NLLs' gradients in its closed form's weights", "[npo]") {
  // d/dNLL of -2/beta log sigmoid(beta gap) is -2 sigmoid(-beta gap).
  World w;
  const auto batch = w.batch_for(NpoSettings{});
  const double beta = 0.3;
  const Values found = gradients(w.model, [&] {
    return npo({.beta = beta, .forget_weight = 1, .retain_weight = 0}, w.model, batch).total();
  });
  Values expected;
  for (const at::Tensor& value : found) expected.push_back(at::zeros_like(value));
  double weights = 0;
  for (const Example& example : w.forget) weights += example.weight;
  for (const Example& example : w.forget) {
    const double gap = nll(w.model, example) - nll(w.reference, example);
    const double factor = -2 / (1 + std::exp(beta * gap)) * example.weight / weights;
    const Values own = gradients(
        w.model, [&] { return -w.model.sequence_logprob(pack(std::span(&example, 1))).sum(); });
    for (size_t i = 0; i < own.size(); ++i) expected[i] += factor * own[i];
  }
  CHECK(relative_distance(found, expected) < 1e-4);
}

TEST_CASE("the gradients equal finite differences", "[unlearning]") {
  World w;
  // Their weights or targets are without gradient: the golden holds for them.
  const std::set<std::string> stopped = {"wga", "satimp", "ceu"};
  for (const UnlearningMethod& method : unlearning_methods()) {
    if (stopped.count(method.name) != 0) continue;
    const Objective objective = method.objective(Config::parse("{}"));
    const auto batch = w.batch(method.needs(Config::parse("{}"), w.model.config()));
    const Values gradient = gradients(w.model, [&] { return objective(w.model, batch).total(); });
    // Along the gradient itself, where the difference stands out most from fp32 rounding.
    double squares = 0;
    for (const at::Tensor& g : gradient) squares += g.square().sum().item<double>();
    const double step = 2e-3 / std::sqrt(squares);
    const Values before = values_of(w.model);
    const auto value_at = [&](double scale) {
      const at::NoGradGuard no_grad;
      for (size_t i = 0; i < gradient.size(); ++i) {
        w.model.parameters()[i].second.add_(gradient[i], scale);
      }
      const double value = objective(w.model, batch).total().item<double>();
      for (size_t i = 0; i < gradient.size(); ++i) w.model.parameters()[i].second.copy_(before[i]);
      return value;
    };
    INFO(method.name);
    CHECK((value_at(step) - value_at(-step)) / (2 * step) == Approx(squares).epsilon(0.01));
  }
}

TEST_CASE("a step costs as many forward passes as the method's page says", "[unlearning]") {
  World w;
  // The same examples for each set, so that each costs the same.
  const TrainData data{.forget = w.forget, .retain = w.forget, .alternative = w.forget};
  for (const UnlearningMethod& method : unlearning_methods()) {
    if (method.page.units == 0) continue;
    const auto batch =
        whole_batch(data, method.needs(Config::parse("{}"), w.model.config()), w.reference);
    const auto flops = [&](auto&& run) {
      w.model.reset_flops();
      run();
      return w.model.flops().total();
    };
    const double forward = flops([&] {
      const at::NoGradGuard no_grad;
      w.model.token_nll(batch.forget);
    });
    const double step = flops([&] {
      gradients(w.model,
                [&] { return method.objective(Config::parse("{}"))(w.model, batch).total(); });
    });
    INFO(method.name);
    // Below 3 to a forward pass: nothing goes back through the first block's inputs.
    CHECK(step / forward == Approx(method.page.units).epsilon(0.12));
  }
}

TEST_CASE("no part of a loss is without a gradient", "[unlearning]") {
  // A penalty made of a detached number trains nothing.
  World w;
  for (const UnlearningMethod& method : unlearning_methods()) {
    INFO(method.name);
    const Objective objective = method.objective(Config::parse("{}"));
    const Needs needs = method.needs(Config::parse("{}"), w.model.config());
    const auto batch = w.batch(needs);
    const auto norm = [&](at::Tensor Loss::*part) {
      return largest(gradients(w.model, [&] { return objective(w.model, batch).*part; }));
    };
    const Loss loss = objective(w.model, batch);
    CHECK((loss.forget.defined() || loss.alternative.defined()));
    if (loss.forget.defined()) CHECK(norm(&Loss::forget) > 0);
    CHECK(loss.retain.defined() == needs.retain);
    if (needs.retain) CHECK(norm(&Loss::retain) > 1e-4);
    CHECK(loss.alternative.defined() == (method.name == "wrong_answers" || method.name == "llmu"));
    if (loss.alternative.defined()) CHECK(norm(&Loss::alternative) > 1e-4);
    // Where there is no retain batch there is no retain part.
    CHECK_FALSE(objective(w.model, {.forget = batch.forget, .alternative = batch.alternative})
                    .retain.defined());
  }
}

TEST_CASE("as beta -> 0 the gradient of NPO tends to that of GA in its summed form", "[npo]") {
  World w;
  const auto batch = w.batch_for(NpoSettings{});
  // GA on the weighted sequence mean of the *summed* NLL; token-mean GA differs by its weighting of
  // sequences of different lengths.
  const Values ascent = gradients(w.model, [&] {
    const at::Tensor weight = batch.forget.weight / batch.forget.weight.sum();
    return (weight * w.model.sequence_logprob(batch.forget)).sum();
  });
  const auto distance_at = [&](double beta) {
    return relative_distance(
        gradients(w.model,
                  [&] { return npo({.beta = beta, .retain_weight = 0}, w.model, batch).total(); }),
        ascent);
  };
  CHECK(distance_at(1) > 0.1);
  CHECK(distance_at(1e-3) < distance_at(1e-1));
  CHECK(distance_at(1e-6) < 1e-4);
}

TEST_CASE("at its start NPO is 2/beta log 2 with GA's gradient", "[npo]") {
  World w;
  auto batch = w.batch_for(NpoSettings{});
  batch.forget.reference_logprob = reference_logprobs(w.model, w.forget);
  const NpoSettings settings{.beta = 0.2, .forget_weight = 1, .retain_weight = 0};
  CHECK(npo(settings, w.model, batch).total().item<double>() ==
        Approx(2 / 0.2 * std::log(2)).epsilon(1e-5));
  const at::Tensor weight = batch.forget.weight / batch.forget.weight.sum();
  const Values ascent =
      gradients(w.model, [&] { return (weight * w.model.sequence_logprob(batch.forget)).sum(); });
  CHECK(relative_distance(gradients(w.model, [&] { return npo(settings, w.model, batch).total(); }),
                          ascent) < 1e-4);
}

TEST_CASE("every method: micro-batches add up, the forget answers lose probability",
          "[unlearning]") {
  const World w;
  // Something to unlearn: a model that knows all the answers.
  std::vector<Example> known = w.forget;
  known.insert(known.end(), w.retain.begin(), w.retain.end());
  TrainerSettings learning = fp32_settings();
  learning.steps = 40;
  learning.batch_size = 10;
  learning.learning_rate = 1e-2;
  Model planted = tiny_model();
  train(planted, sft, sft_needs, {.forget = known}, learning, 1);
  REQUIRE(token_mean(planted, w.forget) < 0.2);

  TrainerSettings settings = fp32_settings();
  settings.steps = 6;
  settings.batch_size = 5;
  // What makes six steps enough: by default the retain side holds these back, or the weights of
  // tokens that are known by heart.
  const std::map<std::string, std::string> stronger = {
      {"simnpo", "{forget_weight: 1}"},
      {"rmu", "{retain_weight: 0.01, steering_coeff: 100}"},
      {"satimp", "{beta2: 0, forget_weight: 1}"}};
  const auto trained = [&](const UnlearningMethod& method) {
    Model model = planted.clone();
    const auto found = stronger.find(method.name);
    const Config own = Config::parse(found == stronger.end() ? "{}" : found->second);
    train(model, method.objective(own), method.needs(own, model.config()), w.data(), settings, 1);
    return model;
  };
  for (const UnlearningMethod& method : unlearning_methods()) {
    INFO(method.name);
    settings.learning_rate = method.name == "rmu" ? 2e-2 : 3e-3;  // it trains few matrices
    settings.accumulate = 1;
    const Model whole = trained(method);
    settings.accumulate = 3;
    const Model split = trained(method);
    CHECK(distance(values_of(whole), values_of(split)) < 1e-3);
    CHECK(token_mean(whole, w.forget) > token_mean(planted, w.forget) + 0.05);
  }
}

TEST_CASE("the table of methods", "[unlearning]") {
  std::set<std::string> names;
  for (const UnlearningMethod& method : unlearning_methods()) {
    CHECK(names.insert(method.name).second);
    CHECK_FALSE(method.paper.empty());
    CHECK(method.year >= 2020);
    // What describe() lists is what a config may set, and nothing else.
    const auto resolved = method.resolve(Config::parse("{}"));
    CHECK(resolved.size() == method.describe().size());
    for (const FieldInfo& field : method.describe()) CHECK(resolved.contains(field.name));
    CHECK_THROWS_AS(method.objective(Config::parse("{nonsense: 1}")), ConfigError);
    const Needs needs = method.needs(Config::parse("{}"), tiny_config());
    CHECK(needs.alternative == !method.alternatives(Config::parse("{}")).source.empty());
  }
  CHECK(names.count("npo") == 1);
  CHECK(unlearning_method("npo").needs(Config::parse("{}"), tiny_config()).reference_logprob);
  CHECK(unlearning_method("npo").resolve(Config::parse("{beta: 0.25}"))["beta"] == 0.25);
  CHECK_THROWS_AS(unlearning_method("npo").objective(Config::parse("{beta: 0}")), ConfigError);
  CHECK_THROWS_WITH(unlearning_method("nop"), Catch::Contains("ga, grad_diff, "));
}

}  // namespace
}  // namespace resurface
