// Each objective beside an independent computation of it, and the identities that hold for it.
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "finetune/lora.h"
#include "finetune/sft.h"
#include "tests/unlearning/world.h"
#include "unlearning/ceu.h"
#include "unlearning/dpo.h"
#include "unlearning/kl_min.h"
#include "unlearning/llmu.h"
#include "unlearning/maxent.h"
#include "unlearning/pdu.h"
#include "unlearning/rmu.h"
#include "unlearning/satimp.h"
#include "unlearning/simnpo.h"
#include "unlearning/task_vector.h"
#include "unlearning/undial.h"
#include "unlearning/wga.h"
#include "unlearning/wrong_answers.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

at::Tensor wave(const at::Tensor& like) {
  return at::arange(like.numel(), at::kDouble).cos().view_as(like);
}

double value(const at::Tensor& scalar) { return scalar.item<double>(); }

// scripts/golden_unlearning.py
TEST_CASE("losses and gradients equal those of torch over padded batches", "[golden]") {
  std::ifstream in(fs::path(RESURFACE_TEST_DATA) / "unlearning" / "objectives.json");
  const auto golden = nlohmann::json::parse(in);
  const auto folder = fs::path(RESURFACE_TEST_DATA) / "model" / "tied";
  Model model = Model::load(folder, at::kCPU, at::kDouble);
  Model reference = model.clone();
  for (const auto& [name, tensor] : reference.parameters()) tensor.mul_(1 + 0.3 * wave(tensor));
  const auto read_examples = [&](const char* name) {
    std::vector<Example> examples;
    for (const auto& entry : golden[name]) {
      examples.push_back({.prompt = entry["prompt"], .answer = entry["answer"], .tags = {}});
    }
    return examples;
  };
  auto forget = read_examples("forget"), alternative = read_examples("alternative");
  const auto retain = read_examples("retain");
  for (size_t i = 0; i < forget.size(); ++i) {
    forget[i].weight = alternative[i].weight = golden["weights"][i];
  }
  std::set<std::string> covered;
  for (const auto& entry : golden["cases"]) {
    const UnlearningMethod& method = unlearning_method(entry["method"]);
    const Config settings = Config::parse(entry["settings"].dump());
    const Objective objective = method.objective(settings);
    covered.insert(method.name);
    INFO(method.name << " " << settings.json().dump());
    const auto batch = whole_batch({.forget = forget, .retain = retain, .alternative = alternative},
                                   method.needs(settings, model.config()), reference);
    const Values gradient = gradients(model, [&] { return objective(model, batch).total(); });
    const Loss loss = objective(model, batch);
    const std::map<std::string, at::Tensor> parts = {
        {"forget", loss.forget}, {"alternative", loss.alternative}, {"retain", loss.retain}};
    for (const auto& [name, part] : parts) {
      INFO(name);
      REQUIRE(part.defined() == entry["loss"].contains(name));
      if (!part.defined()) continue;
      CHECK(value(part) == Approx(entry["loss"][name].get<double>()).epsilon(1e-5));
    }
    for (const auto& [name, wrong] : entry["mistakes"].items()) {
      INFO("mistake: " << name);
      const double right = value(name.starts_with("retain") ? loss.retain : loss.forget);
      CHECK(std::abs(wrong.get<double>() - right) > 1e-3 * std::abs(right));
    }
    for (size_t i = 0; i < gradient.size(); ++i) {
      const auto& name = model.parameters()[i].first;
      INFO(name);
      const auto& expected = entry["gradients"][name];
      const double norm = expected[0];
      CHECK(value(gradient[i].norm()) == Approx(norm).epsilon(1e-4).margin(1e-7));
      CHECK(value((gradient[i] * wave(gradient[i])).sum()) ==
            Approx(expected[1].get<double>()).margin(1e-4 * norm + 1e-7));
    }
  }
  for (const UnlearningMethod& method : unlearning_methods()) {
    INFO(method.name);
    CHECK(covered.count(method.name) == 1);
  }
}

TEST_CASE("SimNPO with delta 0 never touches the reference", "[simnpo]") {
  World w;
  const SimNpoSettings settings{.beta = 1, .forget_weight = 1};
  const auto batch = w.batch_for(settings);
  CHECK_FALSE(batch.forget.reference_logprob.defined());
  CHECK_FALSE(batch.retain.reference_logits.defined());
  CHECK(std::isfinite(value(simnpo(settings, w.model, batch).total())));
}

TEST_CASE("as beta -> 0 the gradient of SimNPO tends to that of the mean of NLL / |y|",
          "[simnpo]") {
  World w;
  const auto batch = w.batch_for(SimNpoSettings{});
  const Values ascent = gradients(w.model, [&] {
    std::vector<at::Tensor> means;
    double weights = 0;
    for (const Example& example : w.forget) {
      const Batch alone = pack(std::span(&example, 1));
      means.push_back(example.weight * w.model.sequence_logprob(alone).sum() /
                      static_cast<double>(example.answer.size()));
      weights += example.weight;
    }
    return at::stack(means).sum() / weights;
  });
  const auto distance_at = [&](double beta) {
    const SimNpoSettings settings{.beta = beta, .forget_weight = 1};
    return relative_distance(
        gradients(w.model, [&] { return simnpo(settings, w.model, batch).forget; }), ascent);
  };
  CHECK(distance_at(1) > 0.1);
  CHECK(distance_at(1e-6) < 1e-4);
}

TEST_CASE("DPO with equal answers has no gradient, and at its start that of their difference",
          "[dpo]") {
  World w;
  const DpoSettings settings{.beta = 0.2};
  World same;
  same.alternative = same.forget;
  const auto equal = same.batch_for(settings);
  const auto forget_gradient = [&](const ForgetRetainBatch& batch) {
    return gradients(w.model, [&] { return dpo(settings, w.model, batch).forget; });
  };
  const auto other = w.batch_for(settings);
  CHECK(largest(forget_gradient(equal)) < 1e-5 * largest(forget_gradient(other)));
  CHECK(value(dpo(settings, w.model, equal).forget) == Approx(2 / 0.2 * std::log(2)));

  // Where nothing has moved yet, the gradient is that of log p(y_F) - log p(y_A).
  const auto start = whole_batch(w.data(), settings.needs(w.model.config()), w.model);
  const Values difference = gradients(w.model, [&] {
    return sequence_mean(w.model.sequence_logprob(start.forget), start.forget) -
           sequence_mean(w.model.sequence_logprob(start.alternative), start.alternative);
  });
  CHECK(relative_distance(forget_gradient(start), difference) < 1e-4);
}

TEST_CASE("KL-min is GradDiff with its KL; to itself the KL is zero with no gradient", "[kl]") {
  World w;
  const KlMinSettings settings{.forget_weight = 0.5, .retain_weight = 3};
  const auto batch = w.batch_for(settings);
  const Loss a = kl_min(settings, w.model, batch);
  const Loss b =
      grad_diff({.forget_weight = 0.5, .retain_weight = 3, .retain_loss = "kl"}, w.model, batch);
  CHECK(value(a.forget) == value(b.forget));
  CHECK(value(a.retain) == value(b.retain));
  CHECK(value(a.retain) > 0.1);
  const auto itself = whole_batch(w.data(), settings.needs(w.model.config()), w.model);
  CHECK(std::abs(value(kl_min(settings, w.model, itself).retain)) < 1e-5);
  CHECK(largest(gradients(w.model, [&] { return kl_min(settings, w.model, itself).retain; })) <
        1e-5);
}

TEST_CASE("WGA with beta 0 is GradDiff, SatImp with beta2 0 is WGA", "[wga]") {
  World w;
  const auto batch = w.batch_for(WgaSettings{});
  const auto gradient = [&](auto&& loss) { return gradients(w.model, loss); };
  CHECK(value(wga({.beta = 0}, w.model, batch).forget) ==
        Approx(value(grad_diff({}, w.model, batch).forget)));
  CHECK(relative_distance(gradient([&] { return wga({.beta = 0}, w.model, batch).total(); }),
                          gradient([&] { return grad_diff({}, w.model, batch).total(); })) < 1e-5);
  const SatImpSettings settings{.beta1 = 0.6, .beta2 = 0, .forget_weight = 1};
  CHECK(relative_distance(gradient([&] { return satimp(settings, w.model, batch).total(); }),
                          gradient([&] { return wga({.beta = 0.6}, w.model, batch).total(); })) <
        1e-5);
}

TEST_CASE("flat logits are the minimum of MaxEnt and PDU", "[maxent]") {
  World w;
  {
    const at::NoGradGuard no_grad;
    w.model.parameter("model.norm.weight").zero_();  // and so all logits
  }
  const auto batch = w.batch_for(MaxEntSettings{});
  CHECK(std::abs(value(maxent({}, w.model, batch).forget)) < 1e-6);
  CHECK(value(pdu({}, w.model, batch).forget) == 0);
  CHECK(largest(gradients(w.model, [&] { return maxent({}, w.model, batch).forget; })) < 1e-6);
}

TEST_CASE("UNDIAL with beta 0 distils the model into itself", "[undial]") {
  World w;
  const UndialSettings settings{.beta = 0};
  const auto itself = whole_batch(w.data(), settings.needs(w.model.config()), w.model);
  CHECK(largest(gradients(w.model, [&] { return undial(settings, w.model, itself).forget; })) <
        1e-5);
  const UndialSettings lowered{.beta = 10};
  CHECK(largest(gradients(w.model, [&] { return undial(lowered, w.model, itself).forget; })) >
        0.01);
}

TEST_CASE("LLMU is ascent, wrong answers and KL at once", "[llmu]") {
  World w;
  const LlmuSettings settings{.forget_weight = 0.3, .random_weight = 0.7, .retain_weight = 2};
  const auto batch = w.batch_for(settings);
  const Loss loss = llmu(settings, w.model, batch);
  CHECK(value(loss.forget) == Approx(-0.3 * value(w.model.token_nll(batch.forget))));
  const WrongAnswersSettings wrong{.forget_weight = 0.7};
  CHECK(value(loss.alternative) == Approx(value(wrong_answers(wrong, w.model, batch).alternative)));
  CHECK(value(loss.retain) == Approx(value(kl_min({.retain_weight = 2}, w.model, batch).retain)));
}

TEST_CASE("task vectors: as far the other way; scale 0 is the identity", "[task_vector]") {
  const World w;
  TrainerSettings settings = fp32_settings();
  settings.steps = 4;
  const auto trained = [&](std::optional<double> scale, const std::string& reach) {
    settings.reach = reach;
    Model model = tiny_model();
    if (scale) {
      const TaskVectorSettings s{.scale = *scale};
      train(
          model, [&](Model& m, const ForgetRetainBatch& b) { return task_vector(s, m, b); },
          s.needs(model.config()), w.data(), settings, 1);
    } else {
      train(model, sft, sft_needs, w.data(), settings, 1);
    }
    if (reach == "lora") merge_lora(model);
    return values_of(model);
  };
  const Values start = values_of(w.model);
  for (const std::string reach : {"full", "lora"}) {
    INFO(reach);
    CHECK(same_bits(trained(0.0, reach), start));
    const Values there = trained({}, reach), back = trained(1.5, reach);
    CHECK(distance(there, start) > 1e-4);
    Values expected;
    for (size_t i = 0; i < start.size(); ++i) {
      expected.push_back(start[i] - 1.5 * (there[i] - start[i]));
    }
    CHECK(distance(back, expected) < 1e-6);
  }
}

ModelConfig deeper() {
  ModelConfig config = tiny_config();
  config.layers = 6;
  return config;
}

TEST_CASE("RMU: what is kept of the frozen blocks changes nothing, later blocks do not run",
          "[rmu]") {
  const World w;
  Model model = Model::random(deeper(), 5), reference = Model::random(deeper(), 6);
  for (Model* m : {&model, &reference}) {
    for (const auto& [name, tensor] : m->parameters()) {
      if (tensor.dim() == 2) tensor.mul_(10);
    }
  }
  // The blocks before the first that trains are the same in both.
  for (const auto& [name, tensor] : reference.parameters()) {
    if (name.find("layers.3.mlp.down_proj") == std::string::npos) {
      tensor.copy_(model.parameter(name));
    }
  }
  const RmuSettings settings{.layer = 4, .steering_coeff = 3, .retain_weight = 2};
  const Needs needs = settings.needs(model.config());
  CHECK(needs.frozen_blocks == 2);
  CHECK(needs.trains == std::vector<std::string>{"model.layers.2.mlp.down_proj.weight",
                                                 "model.layers.3.mlp.down_proj.weight",
                                                 "model.layers.4.mlp.down_proj.weight"});
  auto batch = whole_batch(w.data(), needs, reference);
  REQUIRE(batch.forget.frozen.defined());
  const auto on_trained = [&](const Values& all) {
    Values chosen;
    for (size_t i = 0; i < all.size(); ++i) {
      const auto& name = model.parameters()[i].first;
      if (std::find(needs.trains.begin(), needs.trains.end(), name) != needs.trains.end())
        chosen.push_back(all[i]);
    }
    return chosen;
  };
  const auto run = [&] {
    model.reset_flops();
    const Values all = gradients(model, [&] { return rmu(settings, model, batch).total(); });
    return on_trained(all);
  };
  const Values kept = run();
  const double flops_kept = model.flops().forward;
  batch.forget.frozen.reset();
  batch.retain.frozen.reset();
  CHECK(relative_distance(kept, run()) < 1e-5);
  const double flops_all = model.flops().forward;
  model.reset_flops();
  model.hidden(batch.forget);
  model.hidden(batch.retain);
  CHECK(flops_kept < 0.65 * flops_all);
  CHECK(flops_all < 0.9 * model.flops().forward);

  // At the reference the retain part is zero.
  batch = whole_batch(w.data(), needs, model);
  CHECK(std::abs(value(rmu(settings, model, batch).retain)) < 1e-8);

  TrainerSettings training = fp32_settings();
  training.steps = 2;
  const Values before = values_of(model);
  train(model, unlearning_method("rmu").objective(Config::parse("{layer: 4}")), needs, w.data(),
        training, 1);
  for (size_t i = 0; i < before.size(); ++i) {
    const auto& [name, tensor] = model.parameters()[i];
    INFO(name);
    const bool trains =
        std::find(needs.trains.begin(), needs.trains.end(), name) != needs.trains.end();
    CHECK(at::equal(before[i], tensor) == !trains);
  }
}

TEST_CASE("RMU's layer: 7 of 32 by default, one that is not there is refused", "[rmu]") {
  ModelConfig config = tiny_config();
  config.layers = 32;
  CHECK(RmuSettings{}.block(config) == 7);
  CHECK(RmuSettings{}.first(config) == 5);
  CHECK_THROWS_WITH(unlearning_method("rmu").needs(Config::parse("{layer: 2}"), tiny_config()),
                    Catch::Contains("layer 2") && Catch::Contains("0 .. 1"));
}

}  // namespace
}  // namespace resurface
