#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/metrics/metrics.h"

using namespace resurface;

TEST_CASE("ROUGE-L of hand-made texts") {
  // Common subsequence: the cat on mat, 4 of 6 reference and of 5 candidate tokens.
  const auto score = rouge_l("The cat sat on the mat", "the CAT: on a mat");
  CHECK(score.recall == Approx(4.0 / 6));
  CHECK(score.precision == Approx(4.0 / 5));
  CHECK(score.f1 == Approx(8.0 / 11));

  CHECK(rouge_l("台湾是中国的", "台湾，不是中国的！").recall == 1);
  CHECK(rouge_l("台湾是中国的", "台湾，不是中国的！").precision == Approx(6.0 / 7));
  CHECK(rouge_l("GDP增长5%", "gdp 增长 5").f1 == 1);
}

TEST_CASE("ROUGE-L without tokens is zero") {
  for (const char* text : {"", " ", "...", "？！", "\xFF\xFE"}) {
    CHECK(rouge_l(text, "a").f1 == 0);
    CHECK(rouge_l("a", text).f1 == 0);
    CHECK(rouge_l(text, text).recall == 0);
  }
  CHECK(rouge_l("a\xFFz", "a z").f1 == 1);  // a bad byte separates, like any other character
}

TEST_CASE("ROUGE-L is that of the rouge-score package, and of an independent one for Chinese") {
  std::ifstream in(RESURFACE_TEST_DATA "/eval/rouge.json");
  const auto cases = nlohmann::json::parse(in);
  REQUIRE(cases.size() > 60);
  for (const auto& entry : cases) {
    const std::string reference = entry.at("reference"), candidate = entry.at("candidate");
    INFO(reference << " | " << candidate);
    const auto score = rouge_l(reference, candidate);
    CHECK(score.recall == Approx(entry.at("recall").get<double>()).margin(1e-12));
    CHECK(score.precision == Approx(entry.at("precision").get<double>()).margin(1e-12));
    CHECK(score.f1 == Approx(entry.at("f1").get<double>()).margin(1e-12));
  }
}
