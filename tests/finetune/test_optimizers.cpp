// The optimisers against torch's and a formula (scripts/golden_optimizers.py), QK-clip against
// attention logits computed here, and each of them in the trainer.
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "core/run/error.h"
#include "core/run/key.h"
#include "finetune/lora.h"
#include "finetune/optimizers.h"
#include "finetune/qk_clip.h"
#include "finetune/sft.h"
#include "finetune/stacked.h"
#include "tests/devices.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

TrainerSettings settings_of(const std::string& optimizer) {
  TrainerSettings settings = fp32_settings();
  settings.optimizer = optimizer;
  return settings;
}

const std::vector<std::string> kAll = {"adamw", "muon", "muonclip", "sgd", "lion"};

TEST_CASE("optimisers do what torch's do, and Lion its formula", "[optimizers]") {
  std::ifstream in(fs::path(RESURFACE_TEST_DATA) / "finetune" / "optimizers.json");
  const auto golden = nlohmann::json::parse(in);
  std::map<std::string, TrainerSettings> cases = {{"sgd", settings_of("sgd")},
                                                  {"sgd nesterov", settings_of("sgd")},
                                                  {"sgd plain", settings_of("sgd")},
                                                  {"muon", settings_of("muon")},
                                                  {"muon heavy ball", settings_of("muon")},
                                                  {"lion", settings_of("lion")}};
  cases["sgd nesterov"].sgd = {.momentum = 0.8, .nesterov = true};
  cases["sgd plain"].sgd = {.momentum = 0};
  cases["muon heavy ball"].muon = {.momentum = 0.7, .nesterov = false, .ns_steps = 3};
  for (const at::Device device : devices()) {
    const auto tensor = [&](const nlohmann::json& numbers, const std::string& name) {
      const auto shape = golden["shapes"][name].get<std::vector<int64_t>>();
      const auto values = numbers[name].get<std::vector<double>>();
      return at::tensor(at::ArrayRef<double>(values)).view(shape).to(device, at::kFloat);
    };
    for (auto& [name, settings] : cases) {
      INFO(name << " on " << device.str());
      settings.weight_decay = golden["decay"];
      NamedTensors parameters;
      for (const auto& [parameter, shape] : golden["shapes"].items()) {
        parameters.emplace_back(parameter, tensor(golden["start"], parameter));
      }
      const at::Tensor untouched = at::ones({2, 2}, at::device(device));
      parameters.emplace_back("model.layers.2.untouched", untouched);
      const auto optimizer = make_optimizer(parameters, settings);
      for (const auto& gradients : golden["gradients"]) {
        const double divisor = 2.5;
        for (const auto& [parameter, value] : parameters) {
          if (gradients.contains(parameter)) {
            value.mutable_grad() = tensor(gradients, parameter) * divisor;
          }
        }
        const auto version = parameters[0].second._version();
        optimizer->step(golden["rate"], divisor);
        CHECK(parameters[0].second._version() > version);
      }
      for (const auto& [parameter, shape] : golden["shapes"].items()) {
        INFO(parameter);
        const auto found = std::find_if(parameters.begin(), parameters.end(),
                                        [&](const auto& p) { return p.first == parameter; });
        CHECK(at::allclose(found->second, tensor(golden["results"][name], parameter), 1e-4, 1e-5));
      }
      CHECK(at::equal(untouched, at::ones_like(untouched)));
      CHECK((optimizer->flops() > 0) == name.starts_with("muon"));
    }
  }
}

TEST_CASE("Newton-Schulz brings singular values near one", "[optimizers]") {
  at::manual_seed(1);
  const at::Tensor wide = at::randn({6, 20});
  const at::Tensor values = at::linalg_svdvals(orthogonalize(wide, 5));
  CHECK(values.min().item<double>() > 0.6);
  CHECK(values.max().item<double>() < 1.3);
  // The same of the transpose, and of any multiple.
  CHECK(at::allclose(orthogonalize(wide.t(), 5).t(), orthogonalize(3 * wide, 5), 1e-4, 1e-5));
  CHECK(at::equal(orthogonalize(at::zeros({3, 2}), 5), at::zeros({3, 2})));
}

/// The largest logit of each block and head, in fp64 and with nothing of the model's but its
/// residual stream: [layers, heads].
at::Tensor logits_by_hand(const Model& model, const Batch& batch) {
  const at::NoGradGuard no_grad;
  const ModelConfig& c = model.config();
  const auto wide = [&](const std::string& name) {
    return model.parameter(name).detach().cpu().to(at::kDouble);
  };
  std::vector<double> largest;
  for (int64_t l = 0; l < c.layers; ++l) {
    const at::Tensor x = model.hidden(batch, {.last = l}).cpu().to(at::kDouble);
    const std::string block = fmt::format("model.layers.{}.", l);
    const at::Tensor normed = x * (x.square().mean(1, true) + c.norm_eps).rsqrt() *
                              wide(block + "input_layernorm.weight");
    const at::Tensor q = normed.mm(wide(block + "self_attn.q_proj.weight").t());
    const at::Tensor k = normed.mm(wide(block + "self_attn.k_proj.weight").t());
    // q·k of a pair at distance t: each half-split pair of numbers turned by t times its frequency.
    const auto frequencies = c.rope->inverse_frequencies(c.head_dim);
    const int64_t half = c.head_dim / 2, share = c.heads / c.kv_heads;
    for (int64_t h = 0; h < c.heads; ++h) {
      double most = -1e30;
      for (size_t b = 0; b < batch.lengths.size(); ++b) {
        for (int64_t i = 0; i < batch.lengths[b]; ++i) {
          for (int64_t j = 0; j <= i; ++j) {
            const double* one = q[batch.starts[b] + i].const_data_ptr<double>() + h * c.head_dim;
            const double* other =
                k[batch.starts[b] + j].const_data_ptr<double>() + h / share * c.head_dim;
            double sum = 0;
            for (int64_t p = 0; p < half; ++p) {
              const double angle = static_cast<double>(i - j) * frequencies[static_cast<size_t>(p)];
              sum += std::cos(angle) * (one[p] * other[p] + one[p + half] * other[p + half]) +
                     std::sin(angle) * (one[p] * other[p + half] - one[p + half] * other[p]);
            }
            most = std::max(most, sum / std::sqrt(static_cast<double>(c.head_dim)));
          }
        }
      }
      largest.push_back(most);
    }
  }
  return at::tensor(at::ArrayRef<double>(largest)).view({c.layers, c.heads});
}

TEST_CASE("QK-clip brings each head's largest logit down to its bound", "[qk_clip]") {
  for (const at::Device device : devices()) {
    for (const int64_t kv_heads : {2, 4}) {
      ModelConfig config = tiny_config();
      config.kv_heads = kv_heads;
      Model model = Model::random(config, 1, device);
      const auto examples = random_examples(5, 3);
      const Batch batch = pack(std::span<const Example>(examples), device);
      {
        const at::NoGradGuard no_grad;
        for (const auto& [name, value] : model.parameters()) {
          if (value.dim() == 2) value.mul_(10);
        }
      }
      const at::Tensor before = logits_by_hand(model, batch);
      const double tau = 0.99 * before.median().item<double>();
      REQUIRE(tau > 0);
      const Values start = values_of(model);
      // Nothing trains, nothing is clipped; and the logits are those that are seen.
      const at::Tensor seen = clip_attention(model, batch, tau).cpu().to(at::kDouble);
      CHECK(at::allclose(seen, before, 1e-4, 1e-5));
      CHECK(same_bits(values_of(model), start));
      model.require_grad(true);
      clip_attention(model, batch, before.max().item<double>() * 1.001);
      CHECK(same_bits(values_of(model), start));

      clip_attention(model, batch, tau);
      const at::Tensor after = logits_by_hand(model, batch);
      CHECK(after.max().item<double>() == Approx(tau).epsilon(1e-5));
      CHECK(same_bits({after[0].lt(before[0]).cpu()}, {before[0].gt(tau * (1 + 1e-6)).cpu()}));
      // In the first block, which sees what it saw: W_q by tau / S, or both by its root.
      for (int64_t h = 0; h < config.heads; ++h) {
        const double factor = std::min(1.0, tau / before[0][h].item<double>());
        const bool shared = kv_heads < config.heads;
        const auto head = [&](const at::Tensor& weight) {
          return weight.detach().view({-1, config.head_dim, config.hidden_size})[h].cpu();
        };
        const auto& q = start[2];  // embedding, norm, q_proj, k_proj
        CHECK(model.parameters()[2].first == "model.layers.0.self_attn.q_proj.weight");
        CHECK(at::allclose(head(model.block(0).q.weight),
                           head(q) * (shared ? factor : std::sqrt(factor)), 1e-4, 1e-7));
        if (shared) continue;
        CHECK(at::allclose(head(model.block(0).k.weight), head(start[3]) * std::sqrt(factor), 1e-4,
                           1e-7));
      }
      if (kv_heads < config.heads) CHECK(at::equal(model.block(1).k.weight.cpu(), start[12].cpu()));
      for (const size_t i : {0, 1, 4, 5, 6, 7, 8, 9, 10}) {
        CHECK(at::equal(model.parameters()[i].second.detach(), start[i]));
      }
    }
  }
}

TEST_CASE("muonclip is muon until a logit passes the bound, and keeps to it", "[qk_clip]") {
  const auto examples = random_examples(6, 3), retain = random_examples(6, 4);
  const Objective objective = [](Model& m, const ForgetRetainBatch& batch) -> Loss {
    return {.forget = -m.token_nll(batch.forget), .retain = m.token_nll(batch.retain)};
  };
  const auto trained = [&](const std::string& optimizer, double tau) {
    TrainerSettings settings = settings_of(optimizer);
    settings.learning_rate = 0.02;
    settings.steps = 3;
    settings.accumulate = 2;
    settings.muon.qk_clip = tau;
    Model model = tiny_model();
    const auto result = train(model, objective, {.retain = true},
                              {.forget = examples, .retain = retain}, settings, 1);
    return std::pair{std::move(model), result.flops};
  };
  const auto [muon, muon_flops] = trained("muon", 100);
  const auto [loose, loose_flops] = trained("muonclip", 1e6);
  CHECK(same_bits(values_of(muon), values_of(loose)));
  CHECK(loose_flops > muon_flops);
  const Batch batch = pack(std::span<const Example>(examples));  // all of them in every step
  const double tau = 0.5 * logits_by_hand(muon, batch).max().item<double>();
  const auto [clipped, flops] = trained("muonclip", tau);
  CHECK(logits_by_hand(clipped, batch).max().item<double>() <= tau * (1 + 1e-5));
}

TEST_CASE("each optimiser learns, twice the same, resumed and in a stack too", "[optimizers]") {
  const auto examples = random_examples(8, 3);
  const TrainData data{.forget = examples};
  for (const std::string& optimizer : kAll) {
    for (const std::string reach : {"full", "lora"}) {
      if (optimizer == "muonclip" && reach == "lora") continue;
      INFO(optimizer << " " << reach);
      TrainerSettings settings = settings_of(optimizer);
      settings.reach = reach;
      settings.lora = {.rank = 4, .alpha = 8};
      const double rate = optimizer == "sgd" ? 0.05 : optimizer == "lion" ? 3e-3 : 1e-2;
      settings.learning_rate = reach == "lora" || optimizer == "sgd" ? rate : rate / 3;
      settings.steps = 10;
      settings.batch_size = 4;
      settings.muon.qk_clip = 2;
      settings.weight_decay = 0.01;
      const auto values = [](Model& model) {
        Values all = values_of(model);
        for (const Linear* linear : model.linears()) {
          if (!linear->lora) continue;
          for (const auto& [name, part] : linear->lora->parts()) all.push_back(part.clone());
        }
        return all;
      };
      std::vector<double> losses;
      Model first = tiny_model(), second = tiny_model();
      train(first, sft, sft_needs, data, settings, 1, {.on_step = [&](const StepReport& report) {
              losses.push_back(report.loss);
              return true;
            }});
      CHECK(losses[8] + losses[9] < 0.9 * (losses[0] + losses[1]));
      train(second, sft, sft_needs, data, settings, 1);
      CHECK(same_bits(values(first), values(second)));

      const fs::path state = fs::temp_directory_path() / "resurface_test_optimizer_state";
      fs::remove(state);
      Model killed = tiny_model(), resumed = tiny_model();
      REQUIRE_THROWS_AS(train(killed, sft, sft_needs, data, settings, 1,
                              {.on_step =
                                   [](const StepReport& report) {
                                     if (report.step == 7) throw std::runtime_error("killed");
                                     return true;
                                   },
                               .state = state,
                               .state_every = 5}),
                        std::runtime_error);
      REQUIRE(fs::exists(state));
      TrainerSettings other = settings;
      other.optimizer = optimizer == "sgd" ? "lion" : "sgd";
      Model refused = tiny_model();
      REQUIRE_THROWS_WITH(train(refused, sft, sft_needs, data, other, 1, {.state = state}),
                          Catch::Contains("other settings, data or seed"));
      const auto result = train(resumed, sft, sft_needs, data, settings, 1, {.state = state});
      CHECK(result.steps == 10);
      CHECK(same_bits(values(resumed), values(first)));

      if (reach == "full") continue;
      Model base = tiny_model();
      const std::vector<StackedRun> runs = {{.learning_rate = settings.learning_rate, .seed = 2},
                                            {.learning_rate = settings.learning_rate, .seed = 1}};
      const auto stacked = train_stacked(base, runs, examples, settings);
      const Values alone = values(first);
      for (size_t i = 0; i < stacked[1].adapters.size(); ++i) {
        const at::Tensor& own = alone[alone.size() - stacked[1].adapters.size() + i];
        // Lion's sign turns a gradient's rounding into a whole step.
        CHECK((stacked[1].adapters[i].second - own).norm().item<double>() <
              (optimizer == "lion" ? 0.05 : 1e-3) * own.norm().item<double>());
      }
    }
  }
  TrainerSettings settings = settings_of("muonclip");
  settings.reach = "lora";
  Model model = tiny_model();
  REQUIRE_THROWS_WITH(train(model, sft, sft_needs, data, settings, 1),
                      Catch::Contains("take muon"));
  settings.reach = "full";
  settings.optimizer = "adam";
  REQUIRE_THROWS_WITH(train(model, sft, sft_needs, data, settings, 1),
                      Catch::Contains("muonclip, sgd or lion, got 'adam'"));
}

TEST_CASE("settings that came later leave no trace in keys at their defaults", "[key]") {
  // What the keys of stored results were made of before there was a choice of optimiser.
  CHECK(key_json(TrainerSettings{}).dump() ==
        R"({"reach":"full","lora":{"rank":16,"alpha":32.0},"learning_rate":1e-05,)"
        R"("schedule":"constant","warmup":0.0,"steps":0,"epochs":10,"batch_size":8,)"
        R"("batch_tokens":0,"accumulate":1,"clip":1.0,"weight_decay":0.0,"beta1":0.9,)"
        R"("beta2":0.999,"epsilon":1e-08,"stop_below":0.0,"compute":"auto",)"
        R"("checkpointing":false})");
  TrainerSettings settings;
  settings.optimizer = "muon";
  settings.muon.ns_steps = 6;
  settings.lora.variant = "dora";
  settings.layers = {1};
  const auto json = key_json(settings);
  CHECK(json["optimizer"] == "muon");
  CHECK(json["muon"]["ns_steps"] == 6);
  CHECK(json["lora"]["variant"] == "dora");
  CHECK(json["layers"] == nlohmann::ordered_json{1});
  CHECK_FALSE(json.contains("sgd"));
  CHECK(to_json(TrainerSettings{}).contains("optimizer"));
}

}  // namespace
}  // namespace resurface
