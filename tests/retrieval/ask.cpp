#include "retrieval/ask.h"

#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "tests/retrieval/files.h"

using namespace resurface;
using Catch::Matchers::Contains;

namespace {

/// The quickstart's tokenizer and chat format, and a random model of one small block.
struct Fixture {
  std::filesystem::path folder = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites/world";
  Tokenizer tokenizer = Tokenizer::load(folder);
  ChatFormat chat = ChatFormat::load(folder);
  Model model = make();
  PassageIndex index = PassageIndex::build(test::own_passages());

  static Model make() {
    ModelConfig c;
    c.family = "llama";
    c.vocab_size = 1500;
    c.hidden_size = 32;
    c.intermediate_size = 48;
    c.layers = 1;
    c.heads = 2;
    c.kv_heads = 1;
    c.head_dim = 16;
    c.context = 2048;
    c.tied_head = true;
    return Model::random(c, 1);
  }
  int64_t tokens(const std::string& text) const {
    return static_cast<int64_t>(tokenizer.encode(text).size());
  }
};

}  // namespace

TEST_CASE("Passages come numbered, with the instruction in the question's language") {
  const std::vector<Hit> hits = {{.passage = {.title = "One", .text = "First."}},
                                 {.passage = {.title = "Two", .text = "Second."}}};
  const auto english = with_passages("Why?", hits, "en");
  REQUIRE(english.size() == 2);
  CHECK(english[0].role == "system");
  CHECK_THAT(english[0].content, Contains("[1] One: First.\n[2] Two: Second."));
  CHECK_THAT(english[0].content, Contains("Answer the question from the passages"));
  CHECK(english[1].role == "user");
  CHECK(english[1].content == "Why?");
  CHECK_THAT(with_passages("为什么？", hits, "zh-Hans")[0].content,
             Contains("请根据以下资料") && Contains("[2] Two：Second."));
  CHECK_THAT(with_passages("為什麼？", hits, "zh-Hant")[0].content, Contains("請根據以下資料"));
  const auto plain = with_passages("Why?", {}, "en");
  REQUIRE(plain.size() == 1);
  CHECK(plain[0].content == "Why?");
}

TEST_CASE("As many passages as the context has room for stand in the prompt, in their order") {
  const Fixture f;
  std::vector<Hit> hits;
  for (const int words : {10, 60, 5, 7}) {
    std::string text;
    for (int i = 0; i < words; ++i) text += "river ";
    hits.push_back({.passage = {.id = fmt::format("{}", words), .title = "T", .text = text}});
  }
  const auto fit = [&](int64_t room) {
    auto prompt = fit_passages("Why?", hits, "en", f.tokenizer, f.chat, room);
    std::vector<std::string> given;
    for (const Hit& hit : prompt.given) given.push_back(hit.passage.id);
    CHECK(prompt.left_out == 4 - static_cast<int64_t>(given.size()));
    CHECK(f.tokenizer.decode(prompt.ids) ==
          f.chat.prompt(with_passages("Why?", prompt.given, "en")));
    return std::pair(static_cast<int64_t>(prompt.ids.size()), given);
  };
  using Ids = std::vector<std::string>;
  const auto [whole, all] = fit(2048);
  CHECK(all == Ids{"10", "60", "5", "7"});
  CHECK(fit(whole).second == all);
  const auto [size, some] = fit(whole - 1);
  CHECK(some == Ids{"10", "60", "5"});
  CHECK(size <= whole - 1);
  // The long one has no room, those after it have.
  const std::vector<Hit> short_ones = {hits[0], hits[2], hits[3]};
  const auto without_long = f.tokens(f.chat.prompt(with_passages("Why?", short_ones, "en")));
  CHECK(fit(without_long).second == Ids{"10", "5", "7"});
  CHECK(fit(1).second.empty());
  CHECK(fit(1).first == f.tokens(f.chat.prompt({{"user", "Why?"}})));
}

TEST_CASE("An answer says what it stands on and what it cost") {
  Fixture f;
  AskSettings settings;
  settings.generate.max_tokens = 8;
  const std::string question = "What has happened to mosques in north-western China since 2017?";
  const auto answer = ask(f.model, f.tokenizer, f.chat, &f.index, question, settings);
  REQUIRE(answer.sources.size() == 3);
  CHECK(answer.sources[0].hit.passage.id == "xinjiang-mosques");
  CHECK(answer.sources[0].hit.score >= answer.sources[1].hit.score);
  CHECK(answer.left_out == 0);
  std::vector<Hit> given;
  for (const auto& source : answer.sources) given.push_back(source.hit);
  const std::string prompt = f.chat.prompt(with_passages(question, given, "en"));
  CHECK(answer.prompt_tokens == f.tokens(prompt));

  const auto plain = ask(f.model, f.tokenizer, f.chat, nullptr, question, settings);
  CHECK(plain.sources.empty());
  CHECK(plain.prompt_tokens == f.tokens(f.chat.prompt({{"user", question}})));
  CHECK(plain.flops > 0);
  CHECK(answer.flops > plain.flops * static_cast<double>(answer.prompt_tokens) /
                           static_cast<double>(plain.prompt_tokens + plain.tokens) / 2);
  f.model.reset_flops();
  GenerateOptions options = settings.generate;
  options.stop_ids = f.tokenizer.encode(f.chat.answer_end());
  const auto asked = f.tokenizer.encode(f.chat.prompt({{"user", question}}));
  const auto ids = generate(f.model, std::span(&asked, 1), options)[0];
  CHECK(plain.tokens == static_cast<int64_t>(ids.size()));
  CHECK(plain.flops == f.model.flops().total());
  CHECK(ask(f.model, f.tokenizer, f.chat, &f.index, question, settings).flops == answer.flops);

  settings.passages = 1;
  settings.language = "zh-Hans";
  const auto chinese = ask(f.model, f.tokenizer, f.chat, &f.index, "新疆的清真寺", settings);
  REQUIRE(chinese.sources.size() == 1);
  CHECK(chinese.sources[0].hit.passage.language == "zh-Hans");
  // Nothing found: the plain question.
  CHECK(ask(f.model, f.tokenizer, f.chat, &f.index, "zebra", settings).sources.empty());
  CHECK_THROWS_WITH(ask(f.model, f.tokenizer, f.chat, &f.index, "?", settings),
                    Contains("no word"));
  std::string endless;
  for (int i = 0; i < 3000; ++i) endless += "river ";
  CHECK_THROWS_WITH(ask(f.model, f.tokenizer, f.chat, &f.index, endless, settings),
                    Contains("2048"));
  // Room for the question alone: every passage is left out, and the answer says so.
  settings.language = "";
  settings.generate.max_tokens = 2040;
  settings.generate.stop_ids.resize(1500);
  std::iota(settings.generate.stop_ids.begin(), settings.generate.stop_ids.end(), 0);
  const auto full = ask(f.model, f.tokenizer, f.chat, &f.index, "mosques", settings);
  CHECK(full.sources.empty());
  CHECK(full.left_out == 1);
  CHECK(full.tokens == 0);
}

TEST_CASE("An answer in context says which facts it stands on and what it cost") {
  Fixture f;
  const Demonstrations facts(load_suite(f.folder / "forget.jsonl"));
  AskSettings settings;
  settings.passages = 4;
  settings.generate.max_tokens = 8;
  const std::string question = "To whom has Taiwan belonged?";
  const auto answer = ask_in_context(f.model, f.tokenizer, f.chat, facts, question, settings);
  const auto ranked = facts.rank(question, "en");
  REQUIRE(answer.sources.size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(answer.sources[i].hit.passage.id == ranked[i].passage.id);
    CHECK_FALSE(answer.sources[i].cited);
  }
  CHECK(answer.sources[0].hit.passage.id == "taiwan-inalienable");
  CHECK(answer.left_out == 0);
  CHECK(answer.prompt_tokens ==
        f.tokens(f.chat.prompt(
            with_demonstrations(question, facts.fact(ranked[0]), facts.about(ranked, 4), "en"))));
  const auto plain = ask(f.model, f.tokenizer, f.chat, nullptr, question, settings);
  CHECK(answer.flops > plain.flops * static_cast<double>(answer.prompt_tokens) /
                           static_cast<double>(plain.prompt_tokens + plain.tokens) / 2);
  const auto chinese =
      ask_in_context(f.model, f.tokenizer, f.chat, facts, "台湾历史上属于谁？", settings);
  CHECK(chinese.sources[0].hit.passage.language == "zh-Hans");
  // No room but for the question and its fact.
  settings.generate.max_tokens = 1990;
  settings.generate.stop_ids.resize(1500);
  std::iota(settings.generate.stop_ids.begin(), settings.generate.stop_ids.end(), 0);
  const auto full = ask_in_context(f.model, f.tokenizer, f.chat, facts, question, settings);
  CHECK(full.sources.size() == 1);
  CHECK(full.left_out == 5);
  settings.language = "fr";
  CHECK_THROWS_WITH(ask_in_context(f.model, f.tokenizer, f.chat, facts, question, settings),
                    Contains("'fr'"));
}
