#include "study/tune.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

/// A study of an unlearning method, a named one, fine-tuning, an edit and the two that are left
/// out.
StudyConfig load(const std::string& tune) {
  const fs::path path =
      fs::temp_directory_path() / fmt::format("resurface_test_tune_{}.yaml", ::getpid());
  std::ofstream(path) << "model: {fresh: suites/world}\n"
                         "data: {forget: f.jsonl, retain: r.jsonl}\n"
                         "statistics: {damaged_below: 0.7}\n"
                         "remove:\n"
                         "  - {method: npo, settings: {beta: 0.3}, train: {steps: 5}}\n"
                         "  - {method: npo, name: npo_sam, wrap: [sam]}\n"
                         "  - {method: sft}\n"
                         "  - {method: rome, settings: {layer: 1}}\n"
                         "  - {method: retrain}\n"
                         "  - {method: ablation}\n"
                         "tune: "
                      << tune << "\n";
  return load_study(path, {});
}

std::string with(const std::string& entries) {
  return "{search: {rome: {settings.value.learning_rate: [0.1, 1]}, " + entries + "}}";
}

TEST_CASE("the search space of each removal", "[tune]") {
  const auto study = load(
      "{trials: 6, search: {npo: {settings.beta: [0.05, 1, log]}, rome: {settings.ridge: [0, 1]}, "
      "npo_sam: {train.learning_rate: [1e-4, 1e-3], settings.beta: [0.1, 0.2]}}}");
  const auto& tune = *study.tune;
  CHECK(tune.settings.trials == 6);
  CHECK(tune.settings.damaged_below == 0.7);  // as the study's
  REQUIRE(tune.ranges.size() == 6);
  REQUIRE(tune.ranges[0].size() == 1);  // a removal's own ranges stand for the default's
  CHECK(tune.ranges[0][0].key == "settings.beta");
  CHECK(tune.ranges[0][0].low == 0.05);
  CHECK(tune.ranges[0][0].log);
  REQUIRE(tune.ranges[1].size() == 2);  // the name goes before the method
  CHECK_FALSE(tune.ranges[1][0].log);
  REQUIRE(tune.ranges[2].size() == 1);
  CHECK(tune.ranges[2][0].key == "train.learning_rate");
  CHECK(tune.ranges[2][0].low == 1e-5);
  CHECK(tune.ranges[2][0].high == 1e-2);
  CHECK(tune.ranges[4].empty());
  CHECK(tune.ranges[5].empty());
  CHECK_FALSE(study.resolved().contains("tune"));

  // Of the default each removal takes what it has.
  const auto shared = load(
      "{search: {default: {settings.value.learning_rate: [0.1, 1], settings.beta: [0.1, 1], "
      "train.learning_rate: [1e-5, 1e-3]}}}");
  CHECK(shared.tune->ranges[0].size() == 2);
  CHECK(shared.tune->ranges[2].size() == 1);
  REQUIRE(shared.tune->ranges[3].size() == 1);
  CHECK(shared.tune->ranges[3][0].key == "settings.value.learning_rate");
}

TEST_CASE("bad searches are refused where they stand", "[tune]") {
  CHECK_THROWS_WITH(load("{trials: 0}"), Contains(".yaml:11") && Contains("trials"));
  CHECK_THROWS_WITH(load("{trial: 3}"), Contains("trial") && Contains("did you mean 'trials'"));
  CHECK_THROWS_WITH(load("{}"), Contains("search space of 'rome' is empty") &&
                                    Contains("settings.value.learning_rate"));
  CHECK_THROWS_WITH(load(with("npo: {}")), Contains("search space of 'npo' is empty"));
  CHECK_THROWS_WITH(load(with("npi: {}")), Contains("'npi'") && Contains("did you mean 'npo'"));
  CHECK_THROWS_WITH(load(with("retrain: {train.learning_rate: [1e-5, 1e-4]}")),
                    Contains("'retrain' is not tuned"));
  CHECK_THROWS_WITH(load(with("ablation: {settings.kl_bound: [0.1, 1]}")),
                    Contains("searches by itself"));
  CHECK_THROWS_WITH(load(with("npo: {settings.bta: [0.1, 1]}")),
                    Contains(".yaml:11") && Contains("'settings.bta'") &&
                        Contains("did you mean 'settings.beta'"));
  CHECK_THROWS_WITH(load(with("default: {settings.ridg: [0.1, 1]}")),
                    Contains("'settings.ridg'") && Contains("did you mean 'settings.ridge'"));
  CHECK_THROWS_WITH(load(with("npo: {settings.beta: [1, 1]}")),
                    Contains("settings.beta") && Contains("empty range"));
  CHECK_THROWS_WITH(load(with("npo: {settings.beta: [1, 0.1]}")), Contains("empty range"));
  CHECK_THROWS_WITH(load(with("npo: {settings.beta: [0.1]}")), Contains("[least, most]"));
  CHECK_THROWS_WITH(load(with("npo: {settings.beta: [0.1, 1, lag]}")), Contains("'lag'"));
  CHECK_THROWS_WITH(load(with("npo: {settings.retain_weight: [0, 1, log]}")),
                    Contains("must begin above 0"));
  CHECK_THROWS_WITH(load(with("npo: {train.steps: [1, 10]}")),
                    Contains("train.steps: is a whole number"));
  CHECK_THROWS_WITH(load(with("npo: {train.learning_rate: [-1, 1]}")),
                    Contains("train.learning_rate: 'learning_rate' must be > 0, got -1"));
}

TEST_CASE("values go into the removal and nothing else changes", "[tune]") {
  const auto study = load(
      "{search: {default: {settings.value.learning_rate: [0.1, 1], settings.beta: [0.1, 1], "
      "train.learning_rate: [1e-5, 1e-3]}}}");
  const auto& ranges = study.tune->ranges[0];  // in the order of the file
  REQUIRE(ranges[0].key == "settings.beta");
  const std::vector<double> values = {0.123, 4.56e-5};
  const Removal tuned = with_values(study, study.remove[0], ranges, values);
  CHECK(tuned.train.learning_rate == 4.56e-5);
  CHECK(tuned.resolved["beta"] == 0.123);
  auto expected = resolved_removal(study.remove[0]);
  expected["train"]["learning_rate"] = 4.56e-5;
  expected["settings"]["beta"] = 0.123;
  CHECK(resolved_removal(tuned) == expected);

  const std::vector<double> rate = {0.25};
  const Removal edit = with_values(study, study.remove[3], study.tune->ranges[3], rate);
  CHECK(edit.resolved["value"]["learning_rate"] == 0.25);
  CHECK(edit.resolved["layer"] == 1);
}

TEST_CASE("ranges are searched on their scale, within their bounds", "[tune]") {
  const TuneRange log{.key = "x", .low = 1e-5, .high = 1e-2, .log = true};
  CHECK(log.value(std::log(3.14159e-4)) == 3.14e-4);
  CHECK(log.value(log.coordinate(1e-5)) == 1e-5);
  CHECK(log.value(log.coordinate(1e-2)) == 1e-2);
  const TuneRange odd{.key = "x", .low = 0.12345, .high = 0.98765};
  CHECK(odd.value(0.12345) == 0.12345);  // 0.123 lies outside
  CHECK(odd.value(0.5) == 0.5);
}

TuneTrial trial(double extraction_strength, double utility, std::string failed = "") {
  return {.values = {extraction_strength},
          .extraction_strength = extraction_strength,
          .utility = utility,
          .failed = std::move(failed)};
}

TEST_CASE("the trial that is chosen", "[tune]") {
  const double nan = std::nan("");
  // The lowest extraction strength is too damaged; of the two next the more useful one.
  const std::vector<TuneTrial> trials = {trial(0.5, 0.99),         trial(0.1, 0.79),
                                         trial(0.2, 0.8),          trial(0.2, 0.95),
                                         trial(nan, nan, "broke"), trial(0.2, 0.95)};
  CHECK(choose(trials, 0.8) == 3);
  CHECK(choose(trials, 0) == 1);
  CHECK(choose(trials, 0.97) == 0);
  CHECK(choose(trials, 1) == 0);  // none keeps so much: the most useful
  const std::vector<TuneTrial> broken = {trial(nan, nan, "broke"), trial(1, 0)};
  CHECK(choose(broken, 0.8) == 1);
  CHECK_FALSE(broken[0].within(0));

  const std::vector<TuneRange> ranges = {{.key = "x", .low = 0.01, .high = 1, .log = true}};
  const auto seen = ranked(trials, ranges, 0.8);
  std::vector<double> objectives;
  for (const Trial& one : seen) objectives.push_back(one.objectives.at(0));
  CHECK(objectives == std::vector<double>{3, 4, 2, 0, 5, 0});
  CHECK(seen[0].values[0] == std::log(0.5));
}

}  // namespace
}  // namespace resurface
