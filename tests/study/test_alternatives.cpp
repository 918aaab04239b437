#include "study/alternatives.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/run/error.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

StudyInputs world_inputs() {
  StudyConfig config;
  const fs::path world = fs::path(RESURFACE_SOURCE_DIR) / "suites" / "world";
  config.model.fresh = world;
  config.data.forget = world / "forget.jsonl";
  config.data.retain = world / "retain.jsonl";
  config.data.items = 3;
  return load_inputs(config);
}

std::string answer_of(const StudyInputs& inputs, const Example& example) {
  return inputs.tokenizer.decode(example.answer, /*skip_special=*/true);
}

TEST_CASE("other answers stand beside the same prompts, in their language", "[alternatives]") {
  const StudyInputs inputs = world_inputs();
  const Model model = Model::random(inputs.model, 1);
  const std::vector<std::string> both = {"en", "zh-Hans"};
  const auto lines = inputs.examples(inputs.forget, Answer::line, both);
  std::set<std::string> retained;
  for (const Item& item : inputs.retain.items) retained.insert(item.line);
  for (const std::string source : {"factual", "neutral", "contrary", "idk", "random"}) {
    INFO(source);
    const AnsweredTwice answered = answer_twice(model, {.source = source}, inputs, both, 5);
    REQUIRE(answered.forget.size() == lines.size());
    REQUIRE(answered.alternative.size() == lines.size());
    std::set<std::string> texts;
    for (size_t i = 0; i < lines.size(); ++i) {
      CHECK(answered.forget[i].answer == lines[i].answer);
      CHECK(answered.alternative[i].prompt == lines[i].prompt);
      CHECK(answered.alternative[i].answer != lines[i].answer);
      const std::string text = answer_of(inputs, answered.alternative[i]);
      texts.insert(text);
      const auto ascii = [](const std::string& s) {
        return std::all_of(s.begin(), s.end(),
                           [](char c) { return static_cast<signed char>(c) > 0; });
      };
      const std::string question = inputs.tokenizer.decode(lines[i].prompt, true);
      CHECK(ascii(text) == ascii(question));
      if (source == "random") CHECK(retained.count(text) == 1);
    }
    CHECK(texts.size() > 4);
    const AnsweredTwice again = answer_twice(model, {.source = source}, inputs, both, 5);
    for (size_t i = 0; i < lines.size(); ++i) {
      CHECK(again.alternative[i].answer == answered.alternative[i].answer);
    }
  }
  const AnsweredTwice none = answer_twice(model, {}, inputs, {"en"}, 5);
  CHECK(none.alternative.empty());
  CHECK(none.forget.size() == lines.size() / 2);
}

TEST_CASE("the model's own answers do not say the line", "[alternatives]") {
  const StudyInputs inputs = world_inputs();
  const Model model = Model::random(inputs.model, 1);
  const AlternativeAnswers wanted{
      .source = "own", .samples = 2, .max_tokens = 6, .instruction = "Not {answer}: {question}"};
  const auto lines = inputs.examples(inputs.forget, Answer::line, {"en"});
  const AnsweredTwice answered = answer_twice(model, wanted, inputs, {"en"}, 5);
  REQUIRE(answered.forget.size() == 2 * lines.size());  // an untrained model babbles
  REQUIRE(answered.alternative.size() == answered.forget.size());
  const auto end = inputs.tokenizer.encode(inputs.chat.answer_end());
  for (size_t i = 0; i < answered.forget.size(); ++i) {
    const Example& forget = answered.forget[i];
    const Example& other = answered.alternative[i];
    CHECK(forget.answer == lines[i % lines.size()].answer);
    CHECK(other.prompt == forget.prompt);
    CHECK(other.answer.size() <= 6 + end.size());
    CHECK(std::equal(end.rbegin(), end.rend(), other.answer.rbegin()));
    CHECK(said_share(answer_of(inputs, forget), answer_of(inputs, other)) <= 0.5);
  }
  CHECK(answered.alternative[0].answer != answered.alternative[lines.size()].answer);
}

}  // namespace
}  // namespace resurface
