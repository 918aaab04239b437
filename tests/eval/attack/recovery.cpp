#include "eval/attack/recovery.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/run/error.h"
#include "eval/attack/relearn.h"

using namespace resurface;

namespace {

const std::vector<std::string> kItems = {"one", "two", "three"};

AttackRow row(const std::string& model, const std::string& item, const std::string& language,
              double value) {
  AttackRow r;
  r.model = model;
  r.item = item;
  r.language = language;
  r.part = "test";
  r.extraction_strength = value;
  return r;
}

// Rows of step 0.
std::vector<AttackRow> start(const std::string& model, double value) {
  std::vector<AttackRow> rows;
  for (const auto& item : kItems)
    for (const auto* language : {"en", "zh-Hans"})
      rows.push_back(row(model, item, language, value));
  return rows;
}

// Adds a run whose metric is values[i] at steps 1, 2, 4, ...; outside the utility bound where told.
void add_run(std::vector<AttackRow>& rows, double rate, int64_t seed,
             const std::vector<double>& values, bool within = true,
             const std::string& reach = "full") {
  for (size_t i = 0; i < values.size(); ++i) {
    for (const auto& base : start(rows.front().model, values[i])) {
      auto r = base;
      r.rung = std::string("b");  // GCC 12 sees an overflow in the assignment of a literal here
      r.reach = reach;
      r.learning_rate = rate;
      r.seed = seed;
      r.step = int64_t{1} << i;
      r.examples = 8 * r.step;
      r.tokens = 100 * r.step;
      r.within_utility = within;
      rows.push_back(r);
    }
  }
}

RecoverySettings quick() {
  RecoverySettings s;
  s.metrics = {"extraction_strength"};
  s.bootstrap.resamples = 50;
  return s;
}

const Recovery& find(const std::vector<Recovery>& all, const std::string& reach,
                     const std::string& language) {
  for (const auto& r : all)
    if (r.reach == reach && r.language == language) return r;
  FAIL("no recovery for " << reach << " " << language);
  throw Error("unreachable");
}

}  // namespace

TEST_CASE("Folds are pooled by line") {
  auto removed = start("npo", 0.1);
  // Adds the run of one fold, its lines' values by step 1, 2; false: outside the bound.
  const auto add = [&](double rate, int64_t fold,
                       const std::vector<std::pair<std::string, std::vector<double>>>& lines,
                       const std::vector<bool>& within) {
    for (const auto& [item, values] : lines) {
      for (size_t i = 0; i < values.size(); ++i) {
        auto r = row("npo", item, "en", values[i]);
        r.rung = std::string("b");
        r.reach = std::string("full");
        r.learning_rate = rate;
        r.fold = fold;
        r.step = int64_t{1} << i;
        r.examples = (fold == 1 ? 8 : 4) * r.step;
        r.within_utility = within[i];
        removed.push_back(r);
      }
    }
  };
  add(1e-5, 1, {{"one", {0.1, 0.3}}}, {true, true});
  add(1e-5, 2, {{"two", {0.3, 0.5}}, {"three", {0.5, 0.7}}}, {true, true});
  add(1e-4, 1, {{"one", {0.2, 0.9}}}, {true, true});
  add(1e-4, 2, {{"two", {0.4, 0.9}}, {"three", {0.6, 0.9}}}, {true, false});  // breaks in fold 2
  add(1e-3, 1, {{"one", {0.1, 0.9}}}, {true, true});
  add(1e-3, 2, {{"two", {0.1}}, {"three", {0.1}}}, {true});  // ended there
  const auto implanted = start("implanted", 0.9);

  const auto all = recovery({removed, implanted, {}}, quick());
  REQUIRE(all.size() == 1);
  CHECK(all[0].lines == 3);
  const auto& points = all[0].points;
  REQUIRE(points.size() == 3);
  CHECK(points[1].attacked.estimate == Approx((0.2 + 0.4 + 0.6) / 3));
  CHECK(points[2].attacked.estimate == Approx((0.3 + 0.5 + 0.7) / 3));
  CHECK(points[2].recovered.estimate == Approx((0.5 - 0.1) / 0.8));
  CHECK(points[1].examples == Approx((8 + 4) / 2.0));
  CHECK(points[2].examples == Approx((16 + 8) / 2.0));

  // The rate for further seeds is chosen by the same rule.
  std::vector<AttackRow> runs;
  for (const auto& r : removed)
    if (r.step > 0) runs.push_back(r);
  CHECK(pick_rate(runs).learning_rate == 1e-5);
}

TEST_CASE("A recovery worked out by hand") {
  auto removed = start("npo", 0.1);
  add_run(removed, 1e-5, 0, {0.1, 0.2, 0.3});
  add_run(removed, 1e-4, 0, {0.2, 0.4, 0.2});
  add_run(removed, 1e-3, 0, {0.9, 0.9, 0.9}, false);  // breaks the model: does not count
  add_run(removed, 1e-4, 1, {0.4, 0.6, 0.7});
  auto implanted = start("implanted", 0.9);
  auto oracle = start("oracle", 0.05);
  add_run(oracle, 1e-4, 0, {0.05, 0.05, 0.15});

  const auto all = recovery({removed, implanted, oracle}, quick());
  REQUIRE(all.size() == 3);  // en, zh-Hans, all; one reach, so no "any"
  const auto& r = find(all, "full", "all");
  CHECK(r.model == "npo");
  CHECK(r.lines == 3);
  CHECK(r.reason.empty());
  REQUIRE(r.points.size() == 4);
  const double attacked[] = {0.1, 0.3, 0.5, 0.5};  // seed means of the worst runs within the bound
  for (size_t i = 0; i < 4; ++i) {
    CHECK(r.points[i].attacked.estimate == Approx(attacked[i]));
    CHECK(r.points[i].recovered.estimate == Approx((attacked[i] - 0.1) / 0.8).margin(1e-12));
  }
  CHECK(r.points[3].step == 4);
  CHECK(r.points[3].tokens == 400);
  CHECK(r.points[3].injection.estimate == Approx(0.1));
  CHECK(r.points[3].oracle_gap.estimate == Approx(0.35));
  CHECK(r.points[3].recovered_net.estimate == Approx(0.3 / 0.8));
  CHECK(r.half.steps.estimate == 2);  // (.5 - .1) / .8 = .5
  CHECK(r.half.examples.estimate == 16);
  CHECK(r.half.tokens.estimate == 200);
  CHECK(std::isinf(r.most.steps.estimate));
  // Trapezoids over log2(1 + s) = 0, 1, 1.585, 2.3219.
  const double l3 = std::log2(3), l5 = std::log2(5);
  CHECK(r.auc.estimate == Approx((0.2 + (l3 - 1) * 0.4 + (l5 - l3) * 0.5) / l5));
  // Every line has the same values, so that resampling lines changes nothing.
  CHECK(r.auc.low == Approx(r.auc.estimate));
  CHECK(r.auc.high == Approx(r.auc.estimate));
  const auto json = nlohmann::json(r);
  CHECK(json["most"]["steps"]["mean"].dump() == "null");
  CHECK(json["most"]["reached"] == false);
  CHECK(json["half"]["reached"] == true);
}

TEST_CASE("A model that gets back to the implanted one has recovered all") {
  auto removed = start("ga", 0.2);
  add_run(removed, 1e-4, 0, {0.5, 0.8});
  const auto implanted = start("implanted", 0.8);
  const auto all = recovery({removed, implanted, {}}, quick());
  const auto& r = find(all, "full", "en");
  CHECK(r.points.back().recovered.estimate == Approx(1));
  CHECK(r.most.steps.estimate == 2);
  CHECK(std::isnan(r.points.back().oracle_gap.estimate));
  CHECK(r.reason.find("oracle") != std::string::npos);
}

TEST_CASE("The oracle against itself leaves no gap and no net recovery") {
  auto oracle = start("oracle", 0.1);
  add_run(oracle, 1e-4, 0, {0.2, 0.3});
  add_run(oracle, 1e-4, 1, {0.1, 0.4});
  const auto implanted = start("implanted", 0.9);
  const auto all = recovery({oracle, implanted, oracle}, quick());
  for (const auto& r : all) {
    CHECK(r.oracle_gap_auc.estimate == 0);
    for (const auto& point : r.points) {
      CHECK(point.oracle_gap.estimate == 0);
      CHECK(point.oracle_gap.low == 0);
      CHECK(point.oracle_gap.high == 0);
      CHECK(point.recovered_net.estimate == Approx(0).margin(1e-12));
    }
  }
}

TEST_CASE("Nothing removed: the fraction is undefined and says so") {
  auto removed = start("noop", 0.9);
  add_run(removed, 1e-4, 0, {0.9});
  const auto all = recovery({removed, start("implanted", 0.92), {}}, quick());
  const auto& r = find(all, "full", "all");
  CHECK(std::isnan(r.points.back().recovered.estimate));
  CHECK(std::isnan(r.half.steps.estimate));
  CHECK(r.reason.find("below 0.05") != std::string::npos);
}

TEST_CASE("Several reaches are pooled by the worst of them") {
  auto removed = start("npo", 0);
  add_run(removed, 1e-4, 0, {0.2, 0.6});
  add_run(removed, 1e-4, 0, {0.4, 0.3}, true, "lora");
  const auto all = recovery({removed, start("implanted", 1), {}}, quick());
  CHECK(all.size() == 9);
  const auto& any = find(all, "any", "all");
  CHECK(any.points[1].attacked.estimate == Approx(0.4));
  CHECK(any.points[2].attacked.estimate == Approx(0.6));
}

TEST_CASE("A step at which every run broke the model counts as unattacked") {
  auto removed = start("npo", 0.3);
  add_run(removed, 1e-4, 0, {0.8}, false);
  const auto all = recovery({removed, start("implanted", 1), {}}, quick());
  CHECK(find(all, "full", "all").points[1].attacked.estimate == Approx(0.3));
}

TEST_CASE("The peak worked out by hand") {
  auto removed = start("npo", 0.1);
  add_run(removed, 1e-4, 0, {0.2, 0.7, 0.3});
  add_run(removed, 1e-3, 0, {0.9, 0.9, 0.9}, false);  // breaks the model: does not count
  add_run(removed, 1e-4, 1, {0.4, 0.5, 0.1});
  auto oracle = start("oracle", 0.05);
  add_run(oracle, 1e-4, 0,
          {0.0, 0.1, 0.02, 0.3});  // peaks where the removed model was not measured
  const auto implanted = start("implanted", 0.9);
  const auto all = recovery({removed, implanted, oracle}, quick());
  const auto& r = find(all, "full", "all");
  CHECK(r.points.back().attacked.estimate == Approx(0.2));
  CHECK(r.peak.step == 2);
  CHECK(r.peak.attacked.estimate == Approx(0.6));  // (.7 + .5) / 2
  CHECK(r.peak.recovered.estimate == Approx(0.5 / 0.8));
  CHECK(r.peak.oracle_attacked.estimate == Approx(0.3));
  CHECK(r.peak.oracle_gap.estimate == Approx(0.3));
  CHECK(nlohmann::json(r)["peak"]["step"] == 2);

  // What the attack only lowers has a peak below its start: step 0 is not one of its steps.
  auto lowered = start("low", 0.5);
  add_run(lowered, 1e-4, 0, {0.2, 0.3});
  const auto low = recovery({lowered, implanted, {}}, quick());
  CHECK(find(low, "full", "all").peak.attacked.estimate == Approx(0.3));
  CHECK(std::isnan(find(low, "full", "all").peak.oracle_gap.estimate));
  for (const auto& d : compare({removed, implanted, {}}, {lowered, implanted, {}}, quick()))
    CHECK(d.peak.estimate == Approx(0.3));  // each over its own steps
}

TEST_CASE("The peak is chosen anew in each resample") {
  // One line is said at step 1 alone, one at step 2 alone, one by half at both.
  auto removed = start("npo", 0);
  add_run(removed, 1e-4, 0, {0.5, 0.5});
  for (auto& r : removed) {
    if (r.item == "one") r.extraction_strength = r.step == 1 ? 1 : 0;
    if (r.item == "two") r.extraction_strength = r.step == 2 ? 1 : 0;
  }
  auto settings = quick();
  settings.bootstrap.resamples = 1000;
  const auto all = recovery({removed, start("implanted", 1), {}}, settings);
  const auto& r = find(all, "full", "all");
  CHECK(r.peak.attacked.estimate == Approx(0.5));
  // Drawn n1, n2, n3 times: (max(n1, n2) + n3 / 2) / 3, from .5 to 1; a fixed step: from 0 to 1.
  CHECK(r.peak.attacked.low == Approx(0.5));
  CHECK(r.peak.attacked.high == Approx(1));
  CHECK(r.points[1].attacked.low < 0.3);
}

TEST_CASE("Under the stricter bound a run must keep enough of the implanted model's utility") {
  auto removed = start("npo", 0.1);
  add_run(removed, 1e-4, 0, {0.3});
  add_run(removed, 1e-3, 0, {0.5});
  for (auto& r : removed)
    if (r.step > 0) r.utility = r.learning_rate > 5e-4 ? 0.84 : 0.9;
  const auto implanted = start("implanted", 0.9);
  const auto attacked = [&](double start, double bound) {
    const auto rows = within_bound(removed, start, bound);
    const auto all = recovery({rows, implanted, {}}, quick());
    return find(all, "full", "all").points.back().attacked.estimate;
  };
  CHECK(attacked(1, 0.8) == Approx(0.5));
  CHECK(attacked(0.94, 0.8) == Approx(0.3));         // .84 x .94 = .79
  CHECK(attacked(0.88, 0.8) == Approx(0.1));         // neither: as unattacked
  for (auto& r : removed) r.within_utility = false;  // the bound of the run itself stays
  CHECK(attacked(1.2, 0.8) == Approx(0.1));
  for (auto& r : removed) r.utility = std::nan(""), r.within_utility = true;
  CHECK(attacked(1, 0.8) == Approx(0.1));
}

TEST_CASE("Differences between methods are paired") {
  // Lines differ much, the methods by a constant .1: paired, the interval has no width.
  const auto attacked = [](const std::string& name, double extra) {
    std::vector<AttackRow> rows = start(name, 0);
    add_run(rows, 1e-4, 0, {0.0, 0.0});
    for (auto& r : rows)
      r.extraction_strength = (r.item == "one"   ? 0.0
                               : r.item == "two" ? 0.3
                                                 : 0.6) +
                              (r.step > 0 ? extra : 0);
    return rows;
  };
  const auto a = attacked("a", 0.2), b = attacked("b", 0.1), implanted = start("implanted", 1);
  const auto differences = compare({a, implanted, {}}, {b, implanted, {}}, quick());
  REQUIRE(differences.size() == 3);
  for (const auto& d : differences) {
    CHECK(d.attacked.estimate == Approx(0.1));
    CHECK(d.attacked.low == Approx(0.1));
    CHECK(d.attacked.high == Approx(0.1));
  }
  auto other = b;
  std::erase_if(other, [](const AttackRow& r) { return r.item == "two"; });
  CHECK_THROWS_AS(compare({a, implanted, {}}, {other, implanted, {}}, quick()), Error);
}

TEST_CASE("A model made elsewhere: what is not known of it is undefined, with the reason") {
  auto removed = start("npo", 0.1);
  add_run(removed, 1e-4, 0, {0.2});
  for (const auto& r : recovery({removed, {}, {}}, quick())) {
    CHECK(r.points.back().attacked.estimate == Approx(0.2));
    CHECK(std::isnan(r.points.back().recovered.estimate));
    CHECK(std::isnan(r.points.back().oracle_gap.estimate));
    CHECK(std::isnan(r.half.steps.estimate));
    CHECK_THAT(r.reason, Catch::Contains("before removal is unknown"));
    CHECK_THAT(r.reason, Catch::Contains("oracle is unknown"));
  }
  // One that is given must have been measured on every tested line.
  auto other = start("implanted", 1);
  std::erase_if(other, [&](const AttackRow& r) { return r.item == removed.front().item; });
  CHECK_THROWS_WITH(recovery({removed, other, {}}, quick()), Catch::Contains("implanted"));
}

TEST_CASE("Models that left the attack at different steps can be compared") {
  auto a = start("a", 0.1), b = start("b", 0.1);
  const auto implanted = start("implanted", 1);
  add_run(a, 1e-4, 0, {0.2, 0.3});
  add_run(b, 1e-4, 0, {0.4});  // left after its first measurement
  for (const auto& d : compare({a, implanted, {}}, {b, implanted, {}}, quick()))
    CHECK(d.attacked.estimate == Approx(0.3 - 0.1));
}

TEST_CASE("Recovery refuses an unknown metric") {
  auto removed = start("npo", 0.1);
  add_run(removed, 1e-4, 0, {0.2});
  auto settings = quick();
  settings.metrics = {"bleu"};
  CHECK_THROWS_AS(recovery({removed, start("implanted", 1), {}}, settings), ConfigError);
}
