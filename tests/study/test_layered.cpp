#include "study/layered.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/run/error.h"
#include "core/run/seeds.h"
#include "study/stages.h"
#include "unlearning/methods.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kBoth = {"en", "zh-Hans"};

StudyInputs world_inputs() {
  StudyConfig config;
  const fs::path world = fs::path(RESURFACE_SOURCE_DIR) / "suites" / "world";
  config.model.fresh = world;
  config.data.forget = world / "forget.jsonl";
  config.data.retain = world / "retain.jsonl";
  config.data.items = 3;
  return load_inputs(config);
}

std::set<std::string> items_of(const std::vector<Example>& examples) {
  std::set<std::string> ids;
  for (const Example& example : examples) ids.insert(example.tags.at(0));
  return ids;
}

Removal removal_of(const std::string& method, int64_t folds) {
  Removal removal{.name = "removal", .method = method, .languages = kBoth};
  removal.train.steps = 2;
  removal.train.batch_size = 2;
  removal.train.learning_rate = 1e-3;
  removal.train.compute = "fp32";
  if (folds > 0) removal.layered = LayeredSettings{.folds = folds};
  return removal;
}

bool same_weights(const Model& a, const Model& b) {
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    if (!at::equal(a.parameters()[i].second, b.parameters()[i].second)) return false;
  }
  return true;
}

TEST_CASE("layer after layer, lines go from what is retained to what is forgotten", "[layered]") {
  const StudyInputs inputs = world_inputs();
  const Model model = Model::random(inputs.model, 1);
  const auto retain = inputs.examples(inputs.retain, Answer::line, kBoth);
  const AnsweredTwice answered = answer_twice(model, {.source = "factual"}, inputs, kBoth, 5);
  const auto lines = answered.forget;
  const auto layers = forget_in_layers({.folds = 3}, answered, retain, inputs, kBoth, 7);
  REQUIRE(layers.size() == 3);
  std::set<std::string> forgotten;
  for (size_t i = 0; i < 3; ++i) {
    const auto& [forget, retained] = layers[i];
    const auto due = items_of(forget.forget);
    CHECK(due.size() == i + 1);  // items, each in both languages
    CHECK(std::includes(due.begin(), due.end(), forgotten.begin(), forgotten.end()));
    forgotten = due;
    CHECK(forget.forget.size() == lines.size() * (i + 1) / 3);
    REQUIRE(forget.alternative.size() == forget.forget.size());
    for (size_t e = 0; e < forget.forget.size(); ++e) {
      CHECK(forget.alternative[e].prompt == forget.forget[e].prompt);
    }
    CHECK(retained.size() == retain.size() + lines.size() - forget.forget.size());
    for (size_t e = retain.size(); e < retained.size(); ++e) {
      CHECK(due.count(retained[e].tags[0]) == 0);
    }
  }
  const auto plain = forget_in_layers({.folds = 1}, answered, retain, inputs, kBoth, 7);
  REQUIRE(plain.size() == 1);
  CHECK(plain[0].forget.forget.size() == lines.size());
  CHECK(plain[0].retain.size() == retain.size());
  CHECK_THROWS_AS(forget_in_layers({.folds = 4}, answered, retain, inputs, kBoth, 7), Error);
}

TEST_CASE("one layer is the plain method; a killed removal goes on with its next layer",
          "[layered]") {
  const StudyInputs inputs = world_inputs();
  const fs::path folder = fs::temp_directory_path() / "resurface_test_layered";
  fs::remove_all(folder);
  fs::create_directories(folder);
  const fs::path state = folder / "state";
  const auto removed = [&](int64_t folds, StageCost* cost = nullptr) {
    Model model = Model::random(inputs.model, 1);
    const StageCost made =
        remove_by_training(model, removal_of("grad_diff", folds), inputs, 3, state);
    if (cost != nullptr) *cost = made;
    return model;
  };
  StageCost plain_cost, whole_cost, resumed_cost;
  const Model plain = removed(0, &plain_cost);
  CHECK(same_weights(removed(1), plain));
  const Model whole = removed(2, &whole_cost);
  CHECK_FALSE(same_weights(whole, plain));
  CHECK(whole_cost.cost.flops > 1.5 * plain_cost.cost.flops);
  CHECK(whole_cost.examples == plain_cost.examples);

  // The first layer by hand, as a killed run leaves it.
  fs::remove_all(folder);
  fs::create_directories(folder);
  const Removal removal = removal_of("grad_diff", 2);
  const UnlearningMethod& method = unlearning_method("grad_diff");
  const Config settings = Config::parse("{}");
  Model model = Model::random(inputs.model, 1);
  const auto layers = forget_in_layers(
      *removal.layered, {.forget = inputs.examples(inputs.forget, Answer::line, kBoth)},
      inputs.examples(inputs.retain, Answer::line, kBoth), inputs, kBoth, 3);
  const TrainResult first =
      train(model, method.objective(settings), method.needs(settings, inputs.model),
            {.forget = layers[0].forget.forget, .retain = layers[0].retain}, removal.train, 3);
  keep_layer(state.string() + ".layer0", model,
             {.flops = first.flops, .tokens = first.tokens, .seconds = 1});
  CHECK(same_weights(removed(2, &resumed_cost), whole));
  CHECK(resumed_cost.cost.flops == Approx(whole_cost.cost.flops));
  CHECK(resumed_cost.cost.tokens == whole_cost.cost.tokens);
  fs::remove_all(folder);
}

TEST_CASE("layers and wrappers that cannot be are refused before anything is computed",
          "[layered]") {
  const StudyInputs inputs = world_inputs();
  CHECK_THROWS_WITH(check_unlearning(removal_of("ga", 2), inputs),
                    Catch::Contains("'ga' has none"));
  CHECK_THROWS_WITH(check_unlearning(removal_of("npo", 4), inputs),
                    Catch::Contains("4 folds of 3 lines"));
  CHECK_NOTHROW(check_unlearning(removal_of("npo", 3), inputs));
  CHECK_NOTHROW(check_unlearning(removal_of("ga", 1), inputs));
  Removal removal = removal_of("npo", 0);
  removal.wrap.lat = LatSettings{.layers = {99}};
  CHECK_THROWS_WITH(check_unlearning(removal, inputs), Catch::Contains("layer 99"));
}

}  // namespace
}  // namespace resurface
