#include <catch2/catch.hpp>
#include <fstream>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "finetune/lora.h"
#include "finetune/sft.h"
#include "finetune/stacked.h"
#include "tests/devices.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

at::Tensor logprobs(const Model& model) {
  const at::NoGradGuard no_grad;
  return model.token_logprob(pack(random_examples(6, 9), model.device())).cpu();
}

/// Adapters that do something.
void perturb(Model& model) {
  const at::NoGradGuard no_grad;
  for (Linear* linear : model.linears()) linear->lora->b.normal_(0, 0.1);
}

const std::vector<std::string> kVariants = {"lora", "rslora", "dora"};

TEST_CASE("fresh adapters change nothing, detaching restores", "[lora]") {
  for (const at::Device device : devices()) {
    for (const std::string& variant : kVariants) {
      Model model = tiny_model(1, device);
      const at::Tensor before = logprobs(model);
      attach_lora(model, {.rank = 4, .alpha = 8, .variant = variant}, 1);
      CHECK(at::equal(logprobs(model), before));
      perturb(model);
      CHECK_FALSE(at::allclose(logprobs(model), before, 1e-3, 1e-3));
      detach_lora(model);
      CHECK(at::equal(logprobs(model), before));
    }
  }
}

TEST_CASE("adapters start as the paper's and the reference's do", "[lora]") {
  Model model = tiny_model(), other = tiny_model();
  attach_lora(model, {.rank = 4, .alpha = 8}, 1);
  attach_lora(other, {.rank = 4, .alpha = 8}, 2);
  CHECK(model.linears().size() == 14);
  for (const Linear* linear : model.linears()) {
    const auto& [a, b, scale, magnitude] = *linear->lora;
    CHECK_FALSE(magnitude.defined());
    const double bound = 1 / std::sqrt(static_cast<double>(linear->weight.size(1)));
    CHECK(a.abs().max().item<double>() <= bound);
    CHECK(a.abs().max().item<double>() > 0.9 * bound);
    CHECK(b.abs().max().item<double>() == 0);
    CHECK(scale == 2);
  }
  const at::Tensor first = model.linears()[0]->lora->a.detach().clone();
  CHECK_FALSE(at::equal(first, other.linears()[0]->lora->a));
  perturb(model);
  reset_lora(model, 2);  // in place, and the same as attaching with that seed
  for (size_t i = 0; i < 14; ++i) {
    CHECK(at::equal(model.linears()[i]->lora->a, other.linears()[i]->lora->a));
    CHECK(at::equal(model.linears()[i]->lora->b, other.linears()[i]->lora->b));
  }
  REQUIRE_THROWS_WITH(attach_lora(model, {}, 1), Catch::Contains("has an adapter already"));
}

TEST_CASE("only adapters train, and merging gives the same model", "[lora]") {
  for (const at::Device device : devices()) {
    for (const std::string& variant : kVariants) {
      INFO(variant);
      const auto examples = random_examples(8, 2);
      Model model = tiny_model(1, device);
      const Values before = values_of(model);
      TrainerSettings settings = fp32_settings();
      settings.reach = "lora";
      settings.lora = {.rank = 4, .alpha = 8, .variant = variant};
      settings.learning_rate = 1e-2;
      settings.steps = 20;
      double first = 0;
      const auto result = train(model, sft, sft_needs, {.forget = examples}, settings, 1,
                                {.on_step = [&](const StepReport& report) {
                                  if (report.step == 1) first = report.loss;
                                  return true;
                                }});
      CHECK(result.last_loss < 0.7 * first);
      CHECK(same_bits(values_of(model), before));
      if (variant == "dora") {
        const Linear& linear = *model.linears()[0];
        const at::Tensor lengths = linear.weight.detach().norm(2, 1);
        CHECK_FALSE(at::allclose(linear.lora->magnitude, lengths, 1e-3, 1e-3));
      }
      const at::Tensor adapted = logprobs(model);
      merge_lora(model);
      CHECK_FALSE(model.linears()[0]->lora.has_value());
      CHECK_FALSE(same_bits(values_of(model), before));
      CHECK(at::allclose(logprobs(model), adapted, 1e-4, 1e-4));
    }
  }
}

TEST_CASE("adapters of Python's peft say what they say there", "[lora]") {
  // scripts/golden_lora.py
  const fs::path data = fs::path(RESURFACE_TEST_DATA) / "finetune";
  std::ifstream in(data / "peft.json");
  const auto golden = nlohmann::json::parse(in);
  auto ids = golden["ids"].get<std::vector<int64_t>>();
  const std::vector<Example> example = {
      {.prompt = {ids.front()}, .answer = {ids.begin() + 1, ids.end()}, .tags = {}}};
  for (const at::Device device : devices()) {
    for (const std::string& variant : kVariants) {
      INFO(variant << " on " << device.str());
      Model model = Model::load(fs::path(RESURFACE_TEST_DATA) / "model" / "tied", device);
      import_lora(model, data / ("peft-" + variant));
      const Batch batch = pack(std::span<const Example>(example), device);
      const auto expected = [&](const char* what) {
        const auto values = golden[variant][what].get<std::vector<double>>();
        return at::tensor(at::ArrayRef<double>(values)).to(at::kFloat);
      };
      for (Linear* linear : model.linears()) {
        REQUIRE(linear->lora);
        CHECK(linear->lora->scale == Approx(variant == "rslora" ? 3 : 1.5));
        CHECK(linear->lora->magnitude.defined() == (variant == "dora"));
        for (const auto& [name, part] : linear->lora->parts()) part.set_requires_grad(true);
      }
      const at::Tensor said = model.token_logprob(batch);
      CHECK(at::allclose(said.detach().cpu(), expected("logprobs"), 1e-4, 1e-4));
      (-said.mean()).backward();
      const auto& norms = golden[variant]["gradient_norms"];
      CHECK(norms.size() == (variant == "dora" ? 63 : 42));
      for (const Linear* linear : model.linears()) {
        for (const auto& [name, part] : linear->lora->parts()) {
          INFO(linear->name << name);
          CHECK(part.grad().norm().item<double>() ==
                Approx(norms.at(linear->name + name).get<double>()).epsilon(1e-3));
          part.set_requires_grad(false);
        }
      }

      // Written and read again it is the same adapter, by peft's own rule for the scale.
      const fs::path copy = fs::temp_directory_path() / "resurface_test_peft";
      fs::remove_all(copy);
      export_lora(model, copy, "some/base", variant == "rslora");
      std::ifstream config_file(copy / "adapter_config.json");
      const auto config = nlohmann::json::parse(config_file);
      CHECK(config["lora_alpha"] == 6);
      CHECK(config["use_rslora"] == (variant == "rslora"));
      CHECK(config["use_dora"] == (variant == "dora"));
      const SafetensorsFile mine(copy / "adapter_model.safetensors"),
          theirs(data / ("peft-" + variant) / "adapter_model.safetensors");
      CHECK(mine.tensors().size() == theirs.tensors().size());
      for (const TensorInfo& info : theirs.tensors()) {
        CHECK(at::equal(mine.tensor(info.name), theirs.tensor(info.name)));
      }
      fs::remove_all(copy);

      merge_lora(model);
      const at::NoGradGuard no_grad;
      CHECK(at::allclose(model.token_logprob(batch).cpu(), expected("merged"), 1e-4, 1e-4));
      CHECK(at::allclose(expected("merged"), expected("logprobs"), 1e-4, 1e-4));
    }
  }
  Model other = tiny_model();
  REQUIRE_THROWS_WITH(import_lora(other, data / "peft-dora"),
                      Catch::Contains("the adapter of model.layers.0.") ||
                          Catch::Contains("no layer 'model.layers.2."));
}

TEST_CASE("a DoRA run resumes where it was, and stays out of stacks", "[lora]") {
  const auto examples = random_examples(8, 2);
  TrainerSettings settings = fp32_settings();
  settings.reach = "lora";
  settings.lora = {.rank = 3, .alpha = 6, .variant = "dora"};
  settings.learning_rate = 1e-2;
  settings.steps = 6;
  settings.batch_size = 4;
  const auto parts = [](Model& model) {
    Values all;
    for (const Linear* linear : model.linears()) {
      for (const auto& [name, part] : linear->lora->parts()) all.push_back(part.clone());
    }
    return all;
  };
  Model whole = tiny_model(), killed = tiny_model(), resumed = tiny_model();
  train(whole, sft, sft_needs, {.forget = examples}, settings, 1);
  const fs::path state = fs::temp_directory_path() / "resurface_test_dora_state";
  fs::remove(state);
  REQUIRE_THROWS_AS(train(killed, sft, sft_needs, {.forget = examples}, settings, 1,
                          {.on_step =
                               [](const StepReport& report) {
                                 if (report.step == 5) throw std::runtime_error("killed");
                                 return true;
                               },
                           .state = state,
                           .state_every = 3}),
                    std::runtime_error);
  train(resumed, sft, sft_needs, {.forget = examples}, settings, 1, {.state = state});
  CHECK(parts(resumed).size() == 42);
  CHECK(same_bits(parts(resumed), parts(whole)));
  Model model = tiny_model();
  CHECK(stack_size(model, examples, settings) == 1);
  const std::vector<StackedRun> runs = {{.learning_rate = 1e-3}};
  REQUIRE_THROWS_WITH(train_stacked(model, runs, examples, settings),
                      Catch::Contains("do not stack"));
  settings.lora.variant = "lora";
  REQUIRE_THROWS_WITH(train(whole, sft, sft_needs, {.forget = examples}, settings, 1),
                      Catch::Contains("is DoRA's") && Catch::Contains("variant lora"));
}

TEST_CASE("attached adapters train on; another rank is refused; full reach refuses them",
          "[lora]") {
  const auto examples = random_examples(8, 2);
  TrainerSettings settings = fp32_settings();
  settings.reach = "lora";
  settings.lora.rank = 4;
  settings.steps = 2;
  Model model = tiny_model();
  attach_lora(model, settings.lora, 1);
  perturb(model);
  const at::Tensor a = model.linears()[0]->lora->a;
  train(model, sft, sft_needs, {.forget = examples}, settings, 1);
  CHECK(model.linears()[0]->lora->a.is_same(a));
  settings.lora.rank = 5;
  REQUIRE_THROWS_WITH(train(model, sft, sft_needs, {.forget = examples}, settings, 1),
                      Catch::Contains("rank 4") && Catch::Contains("rank 5"));
  settings.reach = "full";
  REQUIRE_THROWS_WITH(train(model, sft, sft_needs, {.forget = examples}, settings, 1),
                      Catch::Contains("merge or detach"));
}

TEST_CASE("new adapters in the place of old ones are seen by bf16 compute", "[lora]") {
  // The model keeps bf16 copies of weights; an adapter must never meet the copy of its predecessor.
  Model model = tiny_model();
  model.set_compute(at::kBFloat16);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    attach_lora(model, {.rank = 4, .alpha = 8}, seed);
    perturb(model);
    Model fresh = tiny_model();
    fresh.set_compute(at::kBFloat16);
    for (size_t i = 0; i < fresh.linears().size(); ++i) {
      const LoraPair& pair = *model.linears()[i]->lora;
      fresh.linears()[i]->lora =
          LoraPair{pair.a.detach().clone(), pair.b.detach().clone(), pair.scale};
    }
    CHECK(at::equal(logprobs(model), logprobs(fresh)));
    detach_lora(model);
  }
}

TEST_CASE("an exported adapter reads back and has PEFT's names", "[lora]") {
  Model model = tiny_model();
  REQUIRE_THROWS_WITH(export_lora(model, "unused", "base"), Catch::Contains("no LoRA adapter"));
  attach_lora(model, {.rank = 4, .alpha = 6}, 1);
  perturb(model);
  const fs::path folder = fs::temp_directory_path() / "resurface_test_adapter";
  fs::remove_all(folder);
  export_lora(model, folder, "some/base");
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  CHECK(file.tensors().size() == 28);
  CHECK(file.contains("base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"));
  int64_t rank = 0;
  double alpha = 0;
  const auto tensors = read_adapter(folder, rank, alpha);
  CHECK(rank == 4);
  CHECK(alpha == Approx(6));
  REQUIRE(tensors.size() == 14);
  std::map<std::string, const Linear*> by_name;
  for (const Linear* linear : model.linears()) by_name[linear->name] = linear;
  for (const AdapterTensor& tensor : tensors) {
    REQUIRE(by_name.count(tensor.linear) == 1);
    CHECK(at::equal(tensor.a, by_name[tensor.linear]->lora->a.detach()));
    CHECK(at::equal(tensor.b, by_name[tensor.linear]->lora->b.detach()));
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace resurface
