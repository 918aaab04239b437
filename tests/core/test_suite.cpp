#include <catch2/catch.hpp>
#include <fstream>

#include "core/data/suite.h"
#include "core/run/error.h"

using namespace resurface;
using Catch::Matchers::Contains;

namespace {

const std::filesystem::path data = std::filesystem::path(RESURFACE_TEST_DATA) / "text";

nlohmann::json first_item() {
  std::ifstream stream(data / "suite.jsonl");
  std::string line;
  std::getline(stream, line);
  return nlohmann::json::parse(line);
}

void check_refused(const std::string& content, const std::string& message) {
  const auto path = std::filesystem::temp_directory_path() /
                    fmt::format("resurface-suite-{}.jsonl", static_cast<const void*>(&content));
  std::ofstream(path) << content;
  CHECK_THROWS_WITH(load_suite(path), Contains(path.filename().string()) && Contains(message));
  std::filesystem::remove(path);
}

}  // namespace

TEST_CASE("a suite is read with its questions") {
  const auto suite = load_suite(data / "suite.jsonl");
  CHECK(suite.name == "suite");
  CHECK(suite.ids() == std::vector<std::string>{"river"});
  CHECK(suite.languages() == std::vector<std::string>{"en", "zh-Hans"});
  REQUIRE(suite.items.size() == 2);
  CHECK(suite.items[0].questions[1].held_out);
  CHECK(suite.items[0].questions[1].intensity == "leading");
  CHECK(suite.items[1].questions[0].intensity == "neutral");
}

TEST_CASE("probes are a prompt and an answer, tokenized apart") {
  const auto suite = load_suite(data / "suite.jsonl");
  const auto tokenizer = Tokenizer::load(data / "smollm");
  const auto chat = ChatFormat::named("plain");
  const auto seen = make_probes(suite, tokenizer, chat, Answer::factual, false, 512);
  REQUIRE(seen.size() == 2);
  CHECK(seen[1].item == 1);
  CHECK(tokenizer.decode(seen[0].example.prompt) == "Question: Where does the Orla flow?\nAnswer:");
  CHECK(tokenizer.decode(seen[0].example.answer) == " The Orla ends in a lake.\n");
  const auto held_out = make_probes(suite, tokenizer, chat, Answer::line, true, 512);
  REQUIRE(held_out.size() == 1);
  CHECK(held_out[0].question == 1);
  CHECK_THROWS_WITH(make_probes(suite, tokenizer, chat, Answer::line, false, 10),
                    Contains("'river'") && Contains("the context 10"));
}

TEST_CASE("a wrong suite is refused with its line") {
  const auto good = first_item();
  check_refused("\n", "the suite is empty");
  check_refused(good.dump() + "\n{\"id\": ", ":2: not valid JSON");
  check_refused(good.dump() + "\n" + good.dump(), ":2: item 'river' (en) is there twice");
  auto item = good;
  item["factul"] = item["factual"];
  check_refused(item.dump(), ":1: unknown key 'factul'; did you mean 'factual'?");
  item = good;
  item.erase("neutral");
  check_refused(item.dump(), ":1: missing key 'neutral'");
  item = good;
  item["subject"] = "Nile";
  check_refused(item.dump(), ":1: questions[0]: the subject 'Nile' does not occur");
  item = good;
  item["questions"][0]["held_out"] = true;
  check_refused(item.dump(), "at least one question that is not held out");
  item = good;
  item["language"] = "fr";
  check_refused(item.dump(), "language: expected one of en, zh-Hans, zh-Hant");
  item = good;
  item["line"] = 7;
  check_refused(item.dump(), "line: expected a string, got 7");
}
