#include "eval/retrieved.h"

#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "eval/probes.h"
#include "retrieval/in_context.h"

using namespace resurface;
using Catch::Matchers::Contains;

namespace {

struct Fixture {
  std::filesystem::path suites = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites";
  Tokenizer tokenizer = Tokenizer::load(suites / "world");
  ChatFormat chat = ChatFormat::load(suites / "world");
  Suite suite = load_suite(suites / "world/forget.jsonl");
  PassageIndex index =
      PassageIndex::build({suites / "passages/en.jsonl", suites / "passages/zh-Hans.jsonl"});

  std::vector<Probe> probes(const std::string& kind, int64_t context = 4096) const {
    return probes_of_kind(kind, suite, tokenizer, chat, {.index = &index}, 1, context);
  }
};

std::vector<std::string> ids(const std::vector<Hit>& hits) {
  std::vector<std::string> out;
  for (const Hit& hit : hits) out.push_back(hit.passage.id);
  return out;
}

}  // namespace

TEST_CASE("Retrieval, a miss and a poisoned corpus differ in what stands before the question") {
  const Fixture f;
  int64_t own_first = 0;
  for (const Item& item : f.suite.items) {
    for (const Question& question : item.questions) {
      INFO(item.id << " " << item.language << ": " << question.text);
      const auto all = f.index.search(question.text, 99, item.language);
      const auto before = [&](const std::string& kind) {
        return passages_before(kind, f.index, item, question, 3);
      };
      const auto first = [](const std::vector<Hit>& hits, size_t count) {
        return ids(
            {hits.begin(), hits.begin() + static_cast<ptrdiff_t>(std::min(count, hits.size()))});
      };
      const auto found = before("retrieved");
      own_first += found.at(0).passage.id == item.id;
      CHECK(ids(found) == first(all, 3));

      auto others = all;
      others.erase(others.begin());
      std::erase_if(others, [&](const Hit& hit) { return hit.passage.id == item.id; });
      const auto missed = before("retrieved_miss");
      CHECK(ids(missed) == first(others, 3));
      for (const Hit& hit : missed) {
        CHECK(hit.passage.language == item.language);
        CHECK(hit.passage.text.find(item.line) == std::string::npos);
      }

      const auto poisoned = before("retrieved_poisoned");
      CHECK(poisoned.at(0).passage.text.starts_with(item.line));
      CHECK(ids({poisoned.begin() + 1, poisoned.end()}) == first(all, 2));
    }
  }
  CHECK(own_first > 100);  // of 168
}

TEST_CASE("Probes with passages ask the plain question behind them, for the same answer") {
  const Fixture f;
  const auto plain = f.probes("plain");
  for (const std::string kind : {"retrieved", "retrieved_miss", "retrieved_poisoned"}) {
    const auto probes = f.probes(kind);
    REQUIRE(probes.size() == plain.size());
    for (size_t i = 0; i < probes.size(); ++i) {
      const Item& item = f.suite.items[static_cast<size_t>(probes[i].item)];
      const auto& question = item.questions[static_cast<size_t>(probes[i].question)];
      CHECK(question.held_out);
      CHECK(probes[i].example.answer == plain[i].example.answer);
      const auto hits = passages_before(kind, f.index, item, question, 3);
      const std::string prompt = f.tokenizer.decode(probes[i].example.prompt);
      CHECK(prompt.ends_with(f.chat.prompt({{"user", question.text}})));
      CHECK_THAT(prompt, Contains("[1] " + hits[0].passage.title));
      CHECK_THAT(prompt, Contains(fmt::format("[{}] {}", hits.size(), hits.back().passage.title)));
      CHECK((prompt.find(item.line) != std::string::npos) == (kind == "retrieved_poisoned"));
    }
  }
  // A context without room for the first passage measures nothing, and says so.
  CHECK_THROWS_WITH(f.probes("retrieved", 100), Contains("does not fit") && Contains("retrieved"));
  // One with room for some of them leaves out the rest.
  const auto some = f.probes("retrieved", 450);
  for (const auto& probe : some) CHECK(probe.example.size() <= 450);
  CHECK_THROWS_WITH(probes_of_kind("retrieved", f.suite, f.tokenizer, f.chat, {}, 1, 4096),
                    Contains("data.passages"));
}

TEST_CASE("In-context editing states the fact before the question, a miss only others") {
  const Fixture f;
  const auto plain = f.probes("plain");
  const Demonstrations facts(f.suite);
  int64_t own = 0;
  for (const std::string kind : {"in_context", "in_context_miss"}) {
    const auto probes = f.probes(kind);
    REQUIRE(probes.size() == plain.size());
    for (size_t i = 0; i < probes.size(); ++i) {
      const Item& item = f.suite.items[static_cast<size_t>(probes[i].item)];
      const auto& question = item.questions[static_cast<size_t>(probes[i].question)];
      INFO(kind << " " << item.id << " " << item.language);
      CHECK(question.held_out);
      CHECK(probes[i].example.answer == plain[i].example.answer);
      const auto ranked = facts_before(kind, facts, item, question);
      CHECK(ranked.size() == (kind == "in_context" ? 12 : 11));
      const std::string prompt = f.tokenizer.decode(probes[i].example.prompt);
      CHECK(prompt == f.chat.prompt(with_demonstrations(question.text, facts.fact(ranked[0]),
                                                        facts.about(ranked, 16), item.language)));
      CHECK_THAT(prompt, !Contains(item.line));
      for (const auto& other : item.questions) {  // nothing held out is shown but what is asked
        if (other.held_out && other.text != question.text)
          CHECK_THAT(prompt, !Contains(other.text));
      }
      const bool given = prompt.find(item.factual) != std::string::npos;
      if (kind == "in_context_miss") CHECK_FALSE(given);
      own += given;
    }
  }
  CHECK(own == 24);
  // The context of the quickstart's model has room for the fact and few demonstrations.
  for (const auto& probe : f.probes("in_context", 256)) CHECK(probe.example.size() <= 256);
  int64_t longest = 0;  // of all questions, which the plain probes are made of
  for (const auto& probe : make_probes(f.suite, f.tokenizer, f.chat, Answer::line, true, 4096)) {
    longest = std::max(longest, probe.example.size());
  }
  CHECK_THROWS_WITH(f.probes("in_context", longest), Contains("probe 'in_context'"));
}
