// Directional ablation against transformers and heretic's formulas (scripts/golden_ablation.py),
// and against its own identities.
#include "editing/ablation_search.h"

#include <catch2/catch.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "editing/operations.h"
#include "tests/devices.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

namespace fs = std::filesystem;

std::vector<std::vector<int64_t>> random_prompts(int64_t count, uint64_t seed) {
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < count; ++i) {
    prompts.push_back(random_ids(3 + i % 5, seed * 1000 + static_cast<uint64_t>(i)));
  }
  return prompts;
}

at::Tensor random_directions(const Model& model, uint64_t seed) {
  return ablation_directions(mean_residuals(model, random_prompts(6, seed)),
                             mean_residuals(model, random_prompts(7, seed + 1)));
}

const Ablation kEverywhere = {.direction = {},
                              .attention = {.max_weight = 1, .min_weight = 1, .distance = 9},
                              .mlp = {.max_weight = 1, .min_weight = 1, .distance = 9}};

EditFile edit_of(const Model& model, std::vector<Delta> deltas) {
  return {.method = "ablation",
          .base_hash = model.content_hash(),
          .settings = "{}",
          .requests = {},
          .deltas = std::move(deltas),
          .measures = {}};
}

double kl_stand_in(const Model& model, const std::map<std::string, at::Tensor>& originals) {
  double sum = 0;
  for (const auto& [name, value] : originals) {
    sum += (model.parameter(name) - value).norm().item<double>() / value.norm().item<double>();
  }
  return sum;
}

/// A search on a tiny model: the rate is what is left along a direction of one block's matrix.
struct Search {
  Model model = tiny_model(at::kFloat);
  at::Tensor directions = random_directions(model, 5);
  std::map<std::string, at::Tensor> originals;
  int64_t measured = 0;
  AblationSettings settings = {.trials = 24, .startup = 8, .kl_bound = 0.5};

  Search() {
    for (const auto& [name, tensor] : model.parameters()) originals[name] = tensor.clone();
  }
  AblationSearch run(const fs::path& log, uint64_t seed = 3) {
    const auto measure = [&] {
      ++measured;
      const auto d = directions[3].to(at::kFloat);
      return AblationObjectives{
          .rate = d.matmul(model.parameter("model.layers.2.self_attn.o_proj.weight"))
                      .norm()
                      .item<double>(),
          .kl = kl_stand_in(model, originals)};
    };
    return search_ablation(settings, model, directions, measure, seed, log);
  }
};

}  // namespace

TEST_CASE("Directions and ablated weights are those of transformers and heretic") {
  const SafetensorsFile golden(fs::path(RESURFACE_TEST_DATA) / "editing" / "ablation.safetensors");
  const auto prompts = [&](const char* name) {
    std::vector<std::vector<int64_t>> all;
    const auto padded = golden.tensor(std::string("prompts.") + name);
    for (int64_t i = 0; i < padded.size(0); ++i) {
      const auto ids = padded[i].masked_select(padded[i] >= 0).contiguous();
      all.emplace_back(ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel());
    }
    return all;
  };
  for (const auto device : devices()) {
    const auto model =
        Model::load(fs::path(RESURFACE_TEST_DATA) / "model" / "untied-llama3", device);
    for (const int64_t batch_tokens : {1, 12, 2048}) {
      const auto directions =
          ablation_directions(mean_residuals(model, prompts("forget"), batch_tokens),
                              mean_residuals(model, prompts("retain"), batch_tokens));
      REQUIRE(directions.sizes() == golden.tensor("directions").sizes());
      CHECK(largest_difference(directions, golden.tensor("directions")) < 2e-6);
    }
    const std::vector<std::pair<std::string, Ablation>> ablations = {
        {"global", {.direction = 1.3, .attention = {1.2, 1.4, 0.3, 1.5}, .mlp = {0.9, 2, 0, 1}}},
        {"per_layer", {.direction = {}, .attention = {0.7, 0, 0.1, 1.2}, .mlp = {1, 1, 1, 5}}}};
    for (const auto& [name, ablation] : ablations) {
      auto changed = model.clone();
      const auto deltas = ablation_deltas(changed, golden.tensor("directions"), ablation, 0, 2);
      apply_edit(changed, edit_of(changed, deltas));
      for (int64_t i = 0; i < 3; ++i) {
        for (const auto& [part, matrix] :
             {std::pair("attention", "self_attn.o_proj"), std::pair("mlp", "mlp.down_proj")}) {
          const auto weight =
              changed.parameter(fmt::format("model.layers.{}.{}.weight", i, matrix)).cpu();
          CHECK(largest_difference(weight, golden.tensor(fmt::format("{}.{}.{}", name, i, part))) <
                1e-6);
        }
      }
    }
  }
}

TEST_CASE("The kernel falls linearly from its position and ends at its distance") {
  const WeightKernel kernel{.max_weight = 1.2, .position = 2.5, .min_weight = 0.2, .distance = 2};
  CHECK(kernel.at(0) == 0);  // 2.5 away
  CHECK(kernel.at(1) == Approx(1.2 - 0.75));
  CHECK(kernel.at(2) == Approx(1.2 - 0.25));
  CHECK(kernel.at(3) == Approx(1.2 - 0.25));
  CHECK(kernel.at(4) == Approx(1.2 - 0.75));
  CHECK(WeightKernel{.max_weight = 0.7, .position = 3, .distance = 0}.at(3) == 0.7);
}

TEST_CASE("An ablated matrix writes (1 - w) of the direction and all of the rest") {
  auto model = tiny_model(at::kDouble);
  const auto directions = random_directions(model, 1);
  CHECK(largest_difference(directions.norm(2, {1}), at::ones({5})) < 1e-12);
  const Ablation ablation{.direction = 1.75,
                          .attention = {.max_weight = 1, .position = 2, .distance = 1.5},
                          .mlp = {.max_weight = 1.4, .position = 1, .min_weight = 0.6}};
  const auto mixed = 0.25 * directions[2] + 0.75 * directions[3];
  const auto d = mixed / mixed.norm();
  const auto deltas = ablation_deltas(model, directions, ablation, 0, 3);
  std::map<std::string, double> weights;
  for (int64_t l = 0; l < 4; ++l) {
    for (const auto& [matrix, w] : {std::pair("self_attn.o_proj", ablation.attention.at(l)),
                                    std::pair("mlp.down_proj", ablation.mlp.at(l))}) {
      if (w != 0) weights[fmt::format("model.layers.{}.{}.weight", l, matrix)] = w;
    }
  }
  REQUIRE(deltas.size() == weights.size());
  const auto before = model.content_hash();
  const auto originals = apply_edit(model, edit_of(model, deltas));
  for (const auto& delta : deltas) {
    CHECK(delta.left.size(1) == 1);
    const auto &old = originals.at(delta.parameter), now = model.parameter(delta.parameter);
    const double w = weights.at(delta.parameter);
    // The factors are fp32.
    CHECK(largest_difference(d.matmul(now), (1 - w) * d.matmul(old)) < 1e-6);
    const auto rest = [&](const at::Tensor& x) { return x - at::outer(d, d.matmul(x)); };
    CHECK(largest_difference(rest(now), rest(old)) < 1e-6);
    CHECK(largest_difference(now, old) > 1e-3);
  }
  undo_edit(model, originals);
  CHECK(model.content_hash() == before);

  // Ablated twice is ablated once.
  apply_edit(model, edit_of(model, ablation_deltas(model, directions, kEverywhere, 0, 3)));
  const auto once = model.clone();
  const auto again = ablation_deltas(model, directions, kEverywhere, 0, 3);
  CHECK(again.size() == 8);
  apply_edit(model, edit_of(model, again));
  for (const auto& [name, tensor] : model.parameters()) {
    CHECK(largest_difference(tensor, once.parameter(name)) < 1e-6);
  }
}

TEST_CASE("No weight is no edit, and blocks outside the range are left alone") {
  const auto model = tiny_model(at::kFloat);
  const auto directions = random_directions(model, 2);
  CHECK(ablation_deltas(model, directions, {}, 0, 3).empty());
  for (const auto& delta : ablation_deltas(model, directions, kEverywhere, 1, 2)) {
    const bool inside = delta.parameter.starts_with("model.layers.1.") ||
                        delta.parameter.starts_with("model.layers.2.");
    CHECK(inside);
  }
}

TEST_CASE("A direction along which one set's residual stream is shifted is found") {
  ModelConfig config = tiny_model().config();
  config.hidden_size = 32;
  config.heads = 4;
  config.head_dim = 8;
  auto model = Model::random(config, 11);
  auto planted = at::zeros({32});
  for (int64_t i = 0; i < 32; ++i) planted[i] = std::sin(3.0 * static_cast<double>(i) + 1);
  planted = planted / planted.norm();
  {
    // Tokens 200 .. 299 are shifted; prompts of one set end in one of them.
    const at::NoGradGuard no_grad;
    model.parameter("model.embed_tokens.weight").narrow(0, 200, 100).add_(0.5 * planted);
  }
  auto shifted = random_prompts(40, 3), plain = random_prompts(50, 4);
  for (size_t i = 0; i < shifted.size(); ++i) shifted[i].back() = 200 + static_cast<int64_t>(i);
  for (size_t i = 0; i < plain.size(); ++i) plain[i].back() = static_cast<int64_t>(i);
  const auto directions =
      ablation_directions(mean_residuals(model, shifted), mean_residuals(model, plain));
  for (int64_t row = 0; row <= config.layers; ++row) {
    CHECK(directions[row].dot(planted.to(at::kDouble)).item<double>() > 0.99);
  }
}

TEST_CASE("A search keeps every trial, resumes and leaves the model to the bit") {
  const ScratchFolder scratch;
  Search search;
  const auto before = search.model.content_hash();
  const auto whole = search.run(scratch.path / "whole.jsonl");
  CHECK(search.measured == 24);
  CHECK(search.model.content_hash() == before);
  REQUIRE(whole.trials.size() == 24);

  // The rule of choice and the front, by looking at every trial.
  const auto& chosen = whole.trials[whole.chosen].trial.objectives;
  int64_t within = 0;
  for (size_t i = 0; i < whole.trials.size(); ++i) {
    const auto& at = whole.trials[i].trial.objectives;
    if (at[1] <= search.settings.kl_bound) {
      ++within;
      CHECK(chosen[0] <= at[0]);
    }
    bool beaten = false;
    for (const auto& other : whole.trials) {
      const auto& by = other.trial.objectives;
      beaten = beaten || (by[0] <= at[0] && by[1] <= at[1] && by != at);
    }
    CHECK(whole.front[i] == !beaten);
  }
  if (within > 0) CHECK(chosen[1] <= search.settings.kl_bound);

  // The edit is the chosen trial's.
  const auto originals = apply_edit(search.model, whole.edit);
  CHECK(kl_stand_in(search.model, search.originals) == Approx(chosen[1]).epsilon(1e-6));
  undo_edit(search.model, originals);

  // Stopped after seven trials, then torn while writing the eighth.
  const auto log = scratch.path / "part.jsonl";
  search.settings.trials = 7;
  search.run(log);
  std::ofstream(log, std::ios::app) << "{\"trial\": 7, \"ra";
  search.settings.trials = 24;
  search.measured = 0;
  const auto resumed = search.run(log);
  CHECK(search.measured == 17);
  for (size_t i = 0; i < whole.trials.size(); ++i) {
    CHECK(resumed.trials[i].trial.values == whole.trials[i].trial.values);
    CHECK(resumed.trials[i].trial.objectives == whole.trials[i].trial.objectives);
  }
  CHECK(resumed.chosen == whole.chosen);
  search.run(log);
  CHECK(search.measured == 17);

  const auto text = trial_lines(whole, search.settings, search.model.layers());
  CHECK(std::count(text.begin(), text.end(), '\n') == 24);
  const auto first = nlohmann::json::parse(text.substr(0, text.find('\n')));
  CHECK(first["random"] == true);
  CHECK(first["parameters"].size() == 10);
}

TEST_CASE("The trial kept has the lowest rate within the bound, or the lowest KL") {
  const auto trial = [](double rate, double kl) {
    return AblationTrial{.trial = {.values = {}, .objectives = {rate, kl}}};
  };
  const std::vector<AblationTrial> trials = {trial(0.5, 0.05), trial(0.1, 0.4), trial(0.3, 0.1),
                                             trial(0.3, 0.08), trial(0.0, 9)};
  CHECK(choose_trial(trials, 0.1) == 3);
  CHECK(choose_trial(trials, 0.4) == 1);
  CHECK(choose_trial(trials, 10) == 4);
  CHECK(choose_trial(trials, 0.01) == 0);
}

TEST_CASE("An ablation is an edit file like any other") {
  const ScratchFolder scratch;
  Search search;
  search.settings.trials = 6;
  search.settings.startup = 3;
  const auto found = search.run(scratch.path / "log.jsonl");
  const auto base = scratch.path / "base", edited = scratch.path / "edited";
  search.model.save(base);
  const auto file = scratch.path / "a.edit.safetensors";
  write_edit_file(file, found.edit);
  const auto shown = show_edit(file);
  CHECK(shown["method"] == "ablation");
  CHECK(shown["settings"]["chosen"]["trial"] == found.chosen);
  CHECK(shown["settings"]["front"].size() ==
        static_cast<size_t>(std::count(found.front.begin(), found.front.end(), true)));
  const auto listed = list_edits(file).at(0);
  CHECK(listed.rank == std::ssize(found.edit.deltas));
  CHECK(listed.relative_norm > 0);

  apply_edit_to_checkpoint(base, file, edited);
  const auto originals = apply_edit(search.model, found.edit);
  CHECK(Model::load(edited).content_hash() == search.model.content_hash());
  undo_edit(search.model, originals);
  undo_last_edit(edited, scratch.path / "undone");
  CHECK(read_text(scratch.path / "undone" / "model.safetensors") ==
        read_text(base / "model.safetensors"));
  const auto twice = merge_edits({found.edit, found.edit});
  CHECK(twice.deltas.at(0).left.size(1) == 2);
}

TEST_CASE("What cannot be ablated is refused with what to do") {
  const auto model = tiny_model(at::kFloat);
  CHECK_THROWS_WITH(mean_residuals(model, {}), Catch::Contains("empty"));
  const auto means = mean_residuals(model, random_prompts(3, 1));
  CHECK_THROWS_WITH(ablation_directions(means, means), Catch::Contains("must differ"));

  const auto refused = [&](AblationSettings settings, const std::string& words) {
    CHECK_THROWS_WITH(ablation_space(settings, model.layers()), Catch::Contains(words));
  };
  refused({.first_layer = 3, .last_layer = 2}, "3 .. 2");
  refused({.last_layer = 4}, "the model has 0 .. 3");
  refused({.first_layer = 9}, "9 .. 3");
  refused({.direction = {0.9, 0.4}}, "direction is [0.9, 0.4], an empty search space");
  refused({.position = {}}, "position is []");
  refused({.attention_weight = {1.5, 0.8}}, "least <= most");
  refused({.attention_weight = {-1, 0}, .mlp_weight = {0, 0}}, "raise one of them");
  CHECK(ablation_space({}, 1).size() == 10);
}

TEST_CASE("The search space covers both scopes and the whole depth") {
  const auto space = ablation_space({.direction = {0, 1}}, 4);
  std::vector<double> values;
  for (const auto& parameter : space) values.push_back(parameter.high);
  CHECK(ablation_at(space, values).direction == 3.0);  // per_layer 0
  values[0] = 1;
  CHECK(!ablation_at(space, values).direction);
  const auto model = tiny_model(at::kFloat);
  values[0] = 0;
  // The very last direction can be asked for.
  const auto directions = random_directions(model, 8);
  const auto deltas = ablation_deltas(model, directions, ablation_at(space, values), 0, 3);
  REQUIRE(!deltas.empty());
  const auto left = deltas[0].left.squeeze(1).to(at::kDouble);
  CHECK(std::abs(left.dot(directions[4]).item<double>() / left.norm().item<double>()) ==
        Approx(1).epsilon(1e-6));

  CHECK(ablation_space({.scope = "global"}, 4)[0].high == 0);
  CHECK(ablation_space({.scope = "per_layer"}, 4)[0].low == 1);
}
