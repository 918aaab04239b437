#include <catch2/catch.hpp>
#include <cmath>

#include "study/attack_summary.h"

using namespace resurface;

namespace {

using Json = nlohmann::ordered_json;

Measurement measured(const std::string& set, const std::string& item, double logprob,
                     int64_t tokens, const std::string& phrasing = "held_out",
                     const std::string& probe = "plain") {
  Measurement row;
  row.set = set;
  row.item = item;
  row.phrasing = phrasing;
  row.probe = probe;
  row.score.logprob = logprob;
  row.score.tokens = tokens;
  return row;
}

// `x` and `y`: log-prob of retain items of 10 and 20 tokens.
StudyModel model(const std::string& name, const std::string& kind, double x, double y) {
  StudyModel m{.name = name, .kind = kind, .method = kind, .label = name};
  m.before = {measured("retain", "x", x, 10), measured("retain", "y", y, 20),
              // None of these is part of utility.
              measured("retain", "x", -99, 10, "seen"),
              measured("retain", "y", -99, 20, "held_out", "prefill"),
              measured("forget", "x", -99, 10)};
  return m;
}

// Step 0, and one step of rung b that leaves the model with `utility` of its own start.
void attack(StudyModel& m, double before, double after, double utility = 1, double rate = 1e-4) {
  const bool first = m.attacked.empty();
  for (const char* item : {"one", "two"}) {
    AttackRow row;
    row.model = m.name;
    row.item = item;
    row.language = "en";
    row.extraction_strength = before;
    if (first) m.attacked.push_back(row);
    row.rung = std::string("b");
    row.reach = std::string("full");
    row.learning_rate = rate;
    row.step = 1;
    row.extraction_strength = after;
    row.utility = utility;
    m.attacked.push_back(row);
  }
}

double mean(const Json& estimate) { return estimate["mean"].get<double>(); }

RecoverySettings settings() {
  RecoverySettings s;
  s.metrics = {"extraction_strength"};
  return s;
}

}  // namespace

TEST_CASE("Utility is the probability of retained tokens as a share of the implanted model's") {
  const std::vector<StudyModel> models = {model("implanted", "implanted", -2, -4),
                                          model("ruined", "removed", -4, -14),
                                          model("sound", "removed", -3, -6)};
  const AttackSummary summary(models, settings());
  CHECK(summary.utility(models[0]).estimate == 1);
  // Per token -18/30 against -6/30. Resamples: x alone -.4 and -.2, y alone -.7 and -.2.
  const auto& ruined = summary.utility(models[1]);
  CHECK(ruined.estimate == Approx(std::exp(-0.4)));
  CHECK(ruined.low == Approx(std::exp(-0.5)));
  CHECK(ruined.high == Approx(std::exp(-0.2)));
  CHECK(summary.utility(models[2]).estimate == Approx(std::exp(-0.1)));
  CHECK(summary.damaged(models[1]));
  CHECK_FALSE(summary.damaged(models[2]));

  auto lenient = settings();
  lenient.damaged_below = 0.6;
  CHECK_FALSE(AttackSummary(models, lenient).damaged(models[1]));
  const std::vector<StudyModel> alone = {models[1]};
  CHECK(std::isnan(AttackSummary(alone, settings()).utility(alone[0]).estimate));
  CHECK_FALSE(AttackSummary(alone, settings()).damaged(alone[0]));
}

TEST_CASE("A damaged model has no stricter reading and wins nothing") {
  std::vector<StudyModel> models = {
      model("implanted", "implanted", -2, -4), model("ruined", "removed", -4, -14),
      model("sound", "removed", -3, -6), model("open", "removed", -2, -4)};
  attack(models[0], 0.9, 0.9);
  attack(models[1], 0.0, 0.1);
  attack(models[2], 0.1, 0.3, 0.95);        // .86 of the implanted model's
  attack(models[2], 0.1, 0.5, 0.85, 1e-3);  // .77: too little
  attack(models[3], 0.1, 0.7, 0.85);
  const AttackSummary attacks(models, settings());
  Json summary;
  attacks.add_recovery(summary);
  REQUIRE(summary["recovery"].size() == 3);
  CHECK(summary["recovery"][0]["strict"].is_null());
  const Json& sound = summary["recovery"][1];
  CHECK(mean(sound["attacked"]) == Approx(0.5));
  CHECK(mean(sound["peak"]["recovered"]) == Approx(0.5));
  CHECK(mean(sound["strict"]["attacked"]) == Approx(0.3));
  CHECK(mean(sound["strict"]["recovered"]) == Approx(0.25));
  CHECK(mean(sound["strict"]["peak"]["recovered"]) == Approx(0.25));
  CHECK(mean(summary["recovery"][2]["strict"]["attacked"]) == Approx(0.7));

  const Json verdict = attacks.verdict();
  REQUIRE(verdict.size() == 3);  // ruined-sound, ruined-open, sound-open
  for (size_t i = 0; i < 2; ++i) {
    CHECK(verdict[i]["holds"] == true);
    CHECK(verdict[i]["wins"].is_null());
    CHECK_THAT(verdict[i]["reason"].get<std::string>(),
               Catch::Contains("ruined is damaged") && Catch::Contains("0.67"));
  }
  CHECK(verdict[2]["wins"] == "sound");
  CHECK(verdict[2]["reason"].is_null());
  CHECK(mean(verdict[2]["attacked"]) == Approx(-0.2));
  CHECK(mean(verdict[2]["peak"]) == Approx(-0.2));
}

TEST_CASE("Without an implanted model nothing is known to be damaged") {
  std::vector<StudyModel> models = {model("oracle", "oracle", -2, -4),
                                    model("given", "removed", -40, -90)};
  attack(models[0], 0.1, 0.2);
  attack(models[1], 0.1, 0.6);
  Json summary;
  AttackSummary(models, settings()).add_recovery(summary);
  REQUIRE(summary["recovery"].size() == 1);
  const Json& given = summary["recovery"][0];
  CHECK(given["strict"].is_null());
  CHECK(given["recovered"]["mean"].is_null());
  CHECK(given["peak"]["recovered"]["mean"].is_null());
  CHECK(mean(given["peak"]["oracle_gap"]) == Approx(0.4));
}
