#include "retrieval/in_context.h"

#include <catch2/catch.hpp>

#include "core/run/error.h"

using namespace resurface;
using Catch::Matchers::Contains;

namespace {

struct Fixture {
  std::filesystem::path folder = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites/world";
  Tokenizer tokenizer = Tokenizer::load(folder);
  ChatFormat chat = ChatFormat::load(folder);
  Suite suite = load_suite(folder / "forget.jsonl");
  Demonstrations store{suite};

  const Item& item(const std::string& id, const std::string& language) const {
    return *std::find_if(suite.items.begin(), suite.items.end(), [&](const Item& item) {
      return item.id == id && item.language == language;
    });
  }
};

std::set<std::string> seen(const Item& item) {
  std::set<std::string> all;
  for (const Question& question : item.questions) {
    if (!question.held_out) all.insert(question.text);
  }
  return all;
}

bool states(const std::string& fact, const Item& item) {
  const std::string joint = item.language == "en" ? " " : "";
  for (const auto& question : seen(item)) {
    if (fact == question + joint + item.factual) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("Facts are ranked by the question's words, all of a language, the item's own first") {
  const Fixture f;
  int64_t asked = 0, own = 0;
  for (const Item& item : f.suite.items) {
    for (const Question& question : item.questions) {
      const auto ranked = f.store.rank(question.text, item.language);
      std::set<std::string> ids;
      for (size_t i = 0; i < ranked.size(); ++i) {
        ids.insert(ranked[i].passage.id);
        CHECK(ranked[i].passage.language == item.language);
        if (i > 0) CHECK(ranked[i - 1].score >= ranked[i].score);
      }
      CHECK(ids.size() == 12);
      CHECK(ranked.size() == 12);
      if (!question.held_out) continue;
      ++asked;
      own += ranked[0].passage.id == item.id;
    }
  }
  INFO(own << " of " << asked);
  CHECK(asked == 24 * 3);
  CHECK(static_cast<double>(own) >= 0.9 * static_cast<double>(asked));
  CHECK_THROWS_WITH(f.store.rank("Why?", "fr"), Contains("'fr'"));
}

TEST_CASE("Demonstrations copy, update and retain as 1 : 3 : 4, the nearest last") {
  const Fixture f;
  for (const Item& item : f.suite.items) {
    INFO(item.id << " " << item.language);
    const auto ranked = f.store.rank(item.questions.back().text, item.language);
    const auto all = f.store.about(ranked, 16);
    REQUIRE(all.size() == 17);
    std::map<std::string, int64_t> kinds;
    for (size_t i = 0; i < 16; ++i) {
      const Demonstration& one = all[i];
      ++kinds[one.kind];
      const Item& shown = f.item(one.id, item.language);
      CHECK(one.id != ranked[0].passage.id);
      CHECK(one.id == ranked[1 + (15 - i) % 11].passage.id);  // 11 others, then again
      CHECK(states(one.fact, shown));
      const bool own = seen(shown).contains(one.question);
      CHECK(own == (one.kind != "retain"));
      CHECK((one.answer == shown.factual) == own);
      if (own) CHECK(one.fact.starts_with(one.question) == (one.kind == "copy"));
      if (!own) {
        // Answered as if the fact were not there: with the other item's own answer.
        const auto& items = f.suite.items;
        CHECK(std::any_of(items.begin(), items.end(), [&](const Item& other) {
          return other.id != ranked[0].passage.id && seen(other).contains(one.question) &&
                 one.answer == other.factual;
        }));
      }
    }
    CHECK(kinds == std::map<std::string, int64_t>{{"copy", 2}, {"retain", 8}, {"update", 6}});
    CHECK(all.back().kind == "copy");
    CHECK(all.back().id == ranked[0].passage.id);
    CHECK(all.back().fact == f.store.fact(ranked[0]));
    // A fact that returns is asked about otherwise.
    CHECK(all[15].fact != all[4].fact);
    CHECK(f.store.about(ranked, 0).size() == 1);
    CHECK_THROWS_WITH(f.store.about(std::span(ranked).first(2), 16), Contains("three"));
  }
}

TEST_CASE("The question stands last behind its fact; the farthest demonstrations give way") {
  const Fixture f;
  for (const std::string language : {"en", "zh-Hans"}) {
    const Item& item = f.item("taiwan-inalienable", language);
    const auto ranked = f.store.rank(item.questions.back().text, language);
    const auto all = f.store.about(ranked, 16);
    const std::string fact = f.store.fact(ranked[0]), question = item.questions.back().text;
    const auto messages = with_demonstrations(question, fact, all, language);
    REQUIRE(messages.size() == 35);
    const std::string label = language == "en" ? "New fact: " : "新事实：";
    CHECK(messages[0].content == label + all[0].fact + "\n" + all[0].question);
    CHECK(messages[1].role == "assistant");
    CHECK(messages[1].content == all[0].answer);
    CHECK(messages[34].role == "user");
    CHECK(messages[34].content == label + fact + "\n" + question);

    const auto fit = [&](int64_t room) {
      auto prompt = fit_demonstrations(question, fact, all, language, f.tokenizer, f.chat, room);
      CHECK(prompt.left_out + std::ssize(prompt.given) == 17);
      CHECK(f.tokenizer.decode(prompt.ids) ==
            f.chat.prompt(with_demonstrations(question, fact, prompt.given, language)));
      return prompt;
    };
    const auto whole = fit(100000);
    CHECK(whole.left_out == 0);
    const auto size = std::ssize(whole.ids);
    CHECK(fit(size).left_out == 0);
    const auto less = fit(size - 1);
    CHECK(less.left_out == 1);
    CHECK(less.given.front().fact == all[1].fact);
    CHECK(less.given.back().id == ranked[0].passage.id);
    CHECK(fit(1).given.empty());
  }
  CHECK(with_demonstrations("為何？", "事", {}, "zh-Hant")[0].content == "新事實：事\n為何？");
}

TEST_CASE("An item that may not be shown is refused") {
  Fixture f;
  for (Question& question : f.suite.items[3].questions) question.held_out = true;
  CHECK_THROWS_WITH(Demonstrations(f.suite), Contains(f.suite.items[3].id) && Contains("held out"));
}
