// Training restricted to some blocks and modules.
#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "finetune/lora.h"
#include "finetune/sft.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

/// Names of what a training moved: parameters, or layers whose adapters are not zero.
std::vector<std::string> moved(const TrainerSettings& settings, const Needs& needs = sft_needs,
                               double* flops = nullptr) {
  const auto examples = random_examples(6, 3);
  Model model = tiny_model();
  const Values before = values_of(model);
  const auto result = train(model, sft, needs, {.forget = examples}, settings, 1);
  if (flops != nullptr) *flops = result.flops;
  std::vector<std::string> names;
  for (size_t i = 0; i < before.size(); ++i) {
    const auto& [name, value] = model.parameters()[i];
    if (!at::equal(value, before[i])) names.push_back(name);
  }
  for (const Linear* linear : model.linears()) {
    if (linear->lora && linear->lora->b.abs().max().item<double>() > 0) {
      names.push_back(linear->name + ".weight");
    }
  }
  return names;
}

TEST_CASE("only the blocks and modules that are named train", "[layers]") {
  const std::string first = "model.layers.0.", second = "model.layers.1.";
  for (const std::string reach : {"full", "lora"}) {
    for (const bool checkpointing : {false, true}) {
      TrainerSettings settings = fp32_settings();
      settings.reach = reach;
      settings.steps = 2;
      settings.checkpointing = checkpointing;
      double all = 0, last = 0;
      CHECK(moved(settings, sft_needs, &all).size() == (reach == "full" ? 20 : 14));
      settings.layers = {1};
      const auto names = moved(settings, sft_needs, &last);
      CHECK(names.size() == (reach == "full" ? 9 : 7));
      for (const std::string& name : names) CHECK(name.starts_with(second));
      CHECK(last < 0.85 * all);  // nothing backwards through block 0
      settings.modules = "mlp";
      CHECK(moved(settings) == std::vector<std::string>{second + "mlp.gate_proj.weight",
                                                        second + "mlp.up_proj.weight",
                                                        second + "mlp.down_proj.weight"});
      settings.layers = {};
      settings.modules = "attention";
      const auto attention = moved(settings);
      CHECK(attention.size() == 8);
      for (const std::string& name : attention) {
        CHECK(name.find(".self_attn.") != std::string::npos);
      }
      // With what a method trains by itself: what both name.
      const std::string q = first + "self_attn.q_proj.weight";
      CHECK(moved(settings, {.trains = {q, first + "mlp.up_proj.weight"}}) ==
            std::vector<std::string>{q});
      settings.modules = "mlp";
      REQUIRE_THROWS_WITH(moved(settings, {.trains = {q}}), Catch::Contains("nothing trains"));
      settings.layers = {0, 2};
      REQUIRE_THROWS_WITH(moved(settings), Catch::Contains("blocks 0 to 1, and 2 is not one"));
    }
  }
}

TEST_CASE("a restricted training takes the whole one's first step in its blocks", "[layers]") {
  // SGD without clipping: what else trains does not touch a block's own update.
  TrainerSettings settings = fp32_settings();
  settings.optimizer = "sgd";
  settings.clip = 0;
  settings.steps = 1;
  const auto examples = random_examples(6, 3);
  for (const bool checkpointing : {false, true}) {
    settings.checkpointing = checkpointing;
    settings.layers = {};
    Model whole = tiny_model(), part = tiny_model();
    train(whole, sft, sft_needs, {.forget = examples}, settings, 1);
    settings.layers = {1};
    train(part, sft, sft_needs, {.forget = examples}, settings, 1);
    for (size_t i = 0; i < whole.parameters().size(); ++i) {
      const auto& [name, value] = part.parameters()[i];
      if (name.starts_with("model.layers.1.")) {
        CHECK(at::allclose(value, whole.parameters()[i].second, 1e-6, 1e-8));
      }
    }
  }
}

}  // namespace
}  // namespace resurface
