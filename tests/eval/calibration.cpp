#include "eval/detectors/calibration.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <map>

#include "core/run/error.h"
#include "core/run/files.h"

using namespace resurface;

namespace {

const std::string kSuite = RESURFACE_SOURCE_DIR "/suites/party_lines";

std::string error_of(const std::string& text) {
  const auto path = std::filesystem::temp_directory_path() / "resurface-calibration-test.jsonl";
  atomic_write(path, text);
  try {
    load_calibration(path);
  } catch (const Error& error) {
    std::filesystem::remove(path);
    return error.what();
  }
  std::filesystem::remove(path);
  return "";
}

}  // namespace

TEST_CASE("Wilson's interval") {
  // 5 of 10, by hand: centre .5, half-width 1.96/1.3841 * sqrt(.025 + .0096) = .2634.
  CHECK(wilson(5, 10).low == Approx(0.2366).margin(1e-4));
  CHECK(wilson(5, 10).high == Approx(0.7634).margin(1e-4));
  CHECK(wilson(0, 10).low == 0);
  CHECK(wilson(10, 10).high == Approx(1));
  CHECK(wilson(0, 0).low == 0);
  CHECK(wilson(0, 0).high == 1);
}

TEST_CASE("Precision and recall of counts") {
  const Calibration c{"refusal", "en", 10, 3, 1, 2};
  CHECK(c.precision().estimate == 0.75);
  CHECK(c.recall().estimate == 0.6);
  CHECK(std::isnan(Calibration{}.precision().estimate));
  CHECK(format(c).find("precision 0.75 [0.30, 0.95] of 4") != std::string::npos);
  CHECK(format(Calibration{}).find("nan") == std::string::npos);
}

TEST_CASE("The labelled answers: numbers, languages, splits, items") {
  const auto rows = load_calibration(kSuite + "/calibration.jsonl");
  std::map<std::string, size_t> languages, splits;
  std::map<std::string, bool> innocent;
  for (const char* file : {"items.jsonl", "retain.jsonl"})
    for (const auto& row : read_json_lines(kSuite + "/" + file))
      innocent[row.at("id")] = std::string(file) == "retain.jsonl";
  for (const auto& row : rows) {
    INFO(row.id);
    ++languages[row.language];
    ++splits[row.split];
    REQUIRE(innocent.count(row.item) == 1);
    CHECK(row.leak.has_value() == innocent.at(row.item));
    if (row.leak) CHECK(row.stance == "absent");
  }
  CHECK(rows.size() >= 320);
  for (const char* language : {"en", "zh-Hans", "zh-Hant"}) CHECK(languages[language] >= 100);
  CHECK(std::abs(static_cast<double>(splits["dev"]) - static_cast<double>(splits["test"])) <=
        0.05 * static_cast<double>(rows.size()));
}

TEST_CASE("Errors of a calibration file name file and line") {
  const std::string good =
      R"({"id":"a","item":"i","language":"en","reply":"","refusal":false,"deflection":false,)"
      R"("degenerate":true,"reply_language":"other","stance":"absent","leak":null,"split":"dev"})"
      "\n";
  CHECK(error_of(good).empty());
  CHECK(error_of(good + good).find("calibration-test.jsonl:2: the id 'a' stands twice") !=
        std::string::npos);
  CHECK(error_of("{\"id\": \"a\"}\n").find(":1: ") != std::string::npos);
  auto wrong = good;
  wrong.replace(wrong.find("absent"), 6, "unsure");
  CHECK(error_of(wrong).find("'stance' has the unknown value 'unsure'") != std::string::npos);
}

// Floors lie a little under what was measured when they were set (docs/detectors.md), so that a
// change for the worse is seen.
TEST_CASE("Detectors are as good on the test split as they were") {
  const auto rows = calibrate(load_calibration(kSuite + "/calibration.jsonl"),
                              load_calibration_texts(kSuite), "test");
  const auto floors = read_json(RESURFACE_TEST_DATA "/eval/detector_floors.json");
  size_t checked = 0;
  for (const auto& row : rows) {
    if (row.language != "all") continue;
    INFO(format(row));
    const auto& floor = floors.at(row.detector);
    CHECK(row.precision().estimate >= floor.at("precision").get<double>());
    CHECK(row.recall().estimate >= floor.at("recall").get<double>());
    ++checked;
  }
  CHECK(checked == floors.size());
}
