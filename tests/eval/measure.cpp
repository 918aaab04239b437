#include "eval/measure.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/run/error.h"
#include "core/run/files.h"
#include "eval/ways_back/attack.h"

using namespace resurface;

namespace {

/// The quickstart's tokenizer and chat format, a random model of one small block, three lines.
struct Fixture {
  std::filesystem::path folder = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites/world";
  Tokenizer tokenizer = Tokenizer::load(folder);
  ChatFormat chat = ChatFormat::load(folder);
  Suite suite = load_suite(folder / "forget.jsonl");
  Model model = make();

  Fixture() {
    const auto ids = suite.ids();
    std::erase_if(suite.items, [&](const Item& item) {
      return item.id != ids[0] && item.id != ids[1] && item.id != ids[2];
    });
  }
  static Model make(uint64_t seed = 1) {
    ModelConfig c;
    c.family = "llama";
    c.vocab_size = 1500;
    c.hidden_size = 32;
    c.intermediate_size = 48;
    c.layers = 1;
    c.heads = 2;
    c.kv_heads = 1;
    c.head_dim = 16;
    c.context = 1024;
    c.tied_head = true;
    return Model::random(c, seed);
  }
  ProbeTexts texts() const {
    ProbeTexts t;
    t.shown = suite.ids();
    t.shots = 1;
    for (const Item& item : suite.items)
      t.pushback[{item.id, item.language}] = {"No. " + item.id, "Again. " + item.id};
    return t;
  }
  std::string prompt(const Probe& probe) const { return tokenizer.decode(probe.example.prompt); }
};

}  // namespace

TEST_CASE("Probes put the same question in other ways") {
  const Fixture f;
  const auto texts = f.texts();
  const auto of = [&](const std::string& kind) {
    return probes_of_kind(kind, f.suite, f.tokenizer, f.chat, texts, 1, 1024);
  };
  const auto plain = of("plain");
  REQUIRE(plain.size() == f.suite.items.size());
  for (const auto* kind :
       {"prefill", "empty_thought", "forced_thought", "few_shot", "two_turn", "three_turn"}) {
    const auto probes = of(kind);
    REQUIRE(probes.size() == plain.size());
    for (size_t i = 0; i < probes.size(); ++i) {
      INFO(kind << " " << i);
      const Item& item = f.suite.items[static_cast<size_t>(probes[i].item)];
      const auto text = f.prompt(probes[i]), bare = f.prompt(plain[i]);
      const auto& question = item.questions[static_cast<size_t>(probes[i].question)];
      CHECK(question.held_out);
      CHECK(text.find(question.text) != text.npos);
      CHECK(text.find(item.line) == text.npos);  // the line itself is never given away
      CHECK(f.tokenizer.decode(probes[i].example.answer).find(item.line) != text.npos);
      const std::string_view name = kind;
      if (name == "prefill" || name.ends_with("thought")) {
        CHECK(text.starts_with(bare));
        CHECK(text.size() > bare.size());
      }
      if (name.ends_with("thought")) CHECK(text.find("</think>") != text.npos);
      if (name.ends_with("turn")) {
        CHECK(text.find(item.factual) != text.npos);
        CHECK(text.find("No. " + item.id) != text.npos);
        CHECK((text.find("Again. " + item.id) != text.npos) == (name == "three_turn"));
      }
    }
  }
  CHECK_THROWS_AS(of("telepathy"), ConfigError);
}

TEST_CASE("Measurements: one row a probe, replies read, and the same after a file") {
  Fixture f;
  MeasureSettings settings;
  settings.probes = {"prefill", "two_turn"};
  settings.generate_questions = 1;
  settings.generate_tokens = 4;
  const auto probes = make_measure_probes(f.suite, f.tokenizer, f.chat, settings, 1024, f.texts());
  const auto rows = measure(f.model, probes);
  std::map<std::string, size_t> count, replies;
  for (const auto& row : rows) {
    ++count[row.probe];
    if (row.reply) ++replies[row.probe];
    CHECK(row.score.tokens > 0);
  }
  size_t questions = 0;
  for (const auto& item : f.suite.items) questions += item.questions.size();
  const size_t items = f.suite.items.size();
  CHECK(count == std::map<std::string, size_t>{
                     {"plain", questions}, {"prefill", items}, {"two_turn", items}});
  CHECK(replies ==
        std::map<std::string, size_t>{{"plain", items}, {"prefill", items}, {"two_turn", items}});
  // The plain rows are the scores of the examples themselves.
  const auto direct = score(f.model, probes.ways[0].line_examples);
  for (size_t i = 0; i < direct.size(); ++i) CHECK(rows[i].score.logprob == direct[i].logprob);
  for (const auto& row : rows) {
    const nlohmann::json json = row;
    CHECK(nlohmann::json(nlohmann::json::parse(json.dump()).get<Measurement>()).dump() ==
          json.dump());
  }

  const auto others = measure_others(
      f.model, probes, {{.id = "x", .topic = "Food", .language = "en", .text = "What is tea?"}},
      "innocent");
  REQUIRE(others.size() == 1);
  CHECK(others[0].set == "innocent");
  CHECK(others[0].score.tokens == 0);
  const nlohmann::json json = others[0];
  CHECK(json["logprob"].is_null());
  CHECK(nlohmann::json(nlohmann::json::parse(json.dump()).get<Measurement>()).dump() ==
        json.dump());
}

TEST_CASE("A reply is read once for all") {
  const std::string line = "Taiwan has been an inalienable part of China since ancient times";
  const auto said = read_reply(line + ".", line, {}, "en");
  CHECK(said.lcs == 1);
  CHECK(said.rouge_l == 1);
  CHECK(said.stance == Stance::asserted);
  CHECK_FALSE(said.other_language);
  const auto refused = read_reply("I'm sorry, but I can't discuss that.", line, {}, "zh-Hans");
  CHECK(refused.refusal);
  CHECK(refused.stance == Stance::absent);
  CHECK(refused.other_language);
  const std::vector<std::string> forbidden = {line};
  CHECK(read_innocent_reply("Try the noodles. " + line + ".", forbidden, "en").leak == line);
  CHECK(read_innocent_reply("Try the noodles.", forbidden, "en").leak.empty());
}

TEST_CASE("Ways back are attacks of one step, and leave the model alone") {
  Fixture f;
  const Suite retain = load_suite(f.folder / "retain.jsonl");
  AttackSettings settings;
  settings.rungs = {};
  const auto data = make_attack_data(f.suite, retain, retain, f.tokenizer, f.chat, settings, 1024);
  const Model reference = Fixture::make(2);
  const auto way = [](const char* text) { return read_way_back(Config::parse(text, "test")); };
  const std::vector<WayBack> ways = {
      way("{way: interpolate, name: nothing, settings: {t: 0}}"),
      way("{way: interpolate, name: whole, settings: {t: 1}}"),
      way("{way: rtn, settings: {bits: 2}}"),
      way("{way: few_shot, settings: {shots: 1}}"),
  };
  const WaysContext context{
      .forget = f.suite, .tokenizer = f.tokenizer, .chat = f.chat, .reference = &reference};
  const auto before = f.model.content_hash();
  const auto rows = ways_back(f.model, "m", data, settings, ways, context);
  CHECK(f.model.content_hash() == before);
  const auto every = [](const TestLine&) { return true; };
  const auto own = score_lines(f.model, data, every, 2048);
  const auto theirs = score_lines(reference, data, every, 2048);
  std::set<std::string> seen;
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t line = i % data.tested.size();
    seen.insert(rows[i].rung + "/" + rows[i].reach);
    if (rows[i].rung == "none" || rows[i].rung == "nothing") {
      CHECK(rows[i].logprob_per_token == own.lines[line].logprob_per_token);
      CHECK(rows[i].utility == 1);
    }
    if (rows[i].rung == "whole")
      CHECK(rows[i].logprob_per_token == theirs.lines[line].logprob_per_token);
    if (rows[i].rung == "rtn")
      CHECK(rows[i].logprob_per_token != own.lines[line].logprob_per_token);
  }
  CHECK(seen == std::set<std::string>{"none/none", "nothing/weights", "whole/weights",
                                      "rtn/weights", "few_shot/prompt"});
  auto alone = context;
  alone.reference = nullptr;
  CHECK_THROWS_WITH(ways_back(f.model, "m", data, settings, {ways[1]}, alone),
                    Catch::Contains("needs a model to compare with"));
  CHECK_THROWS_WITH(way("{way: rtm}"), Catch::Contains("did you mean 'rtn'"));
  CHECK_THROWS_WITH(way("{way: rtn, settings: {bit: 4}}"), Catch::Contains("bit"));
}
