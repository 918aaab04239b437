// Reading, checking, printing and describing settings.
#include <catch2/catch.hpp>

#include "core/run/config.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

struct Inner {
  int64_t rank = 16;
  template <class V>
  void visit(V& v) {
    v("rank", rank, "rank", Range::at_least(1));
  }
};

struct Method {
  std::string name;
  template <class V>
  void visit(V& v) {
    v("name", name, "which");
  }
};

struct Outer {
  double learning_rate = 1e-5;
  bool checkpointing = false;
  std::string schedule = "constant";
  std::vector<int64_t> seeds = {1, 2};
  std::optional<double> stop;
  std::filesystem::path model = "models/a";
  Inner lora;
  std::vector<Inner> more;

  template <class V>
  void visit(V& v) {
    v("learning_rate", learning_rate, "peak rate", Range::above(0));
    v("checkpointing", checkpointing, "recompute");
    v("schedule", schedule, "after the warm-up", OneOf{{"constant", "linear", "cosine"}});
    v("seeds", seeds, "one run each", Range::at_least(0));
    v("stop", stop, "early stop", Range::between(0, 1));
    v("model", model, "a folder");
    v("lora", lora, "adapters");
    v("more", more, "a list of maps");
  }
};

/// The message of the ConfigError that `act` throws.
template <class F>
std::string message_of(F act) {
  try {
    act();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return message_of([&] { read<Outer>(Config::parse(text, "x.yaml", overrides)); });
}

TEST_CASE("config fills every kind of field and leaves the absent at their defaults") {
  auto outer = read<Outer>(Config::parse(
      "learning_rate: 3e-4\ncheckpointing: true\nschedule: linear\nseeds: [7, 8, 9]\nstop: 0.5\n"
      "model: /tmp/b c\nlora: {rank: 4}\nmore:\n  - rank: 2\n  - {}\n"));
  CHECK(outer.learning_rate == 3e-4);
  CHECK(outer.checkpointing);
  CHECK(outer.schedule == "linear");
  CHECK(outer.seeds == std::vector<int64_t>{7, 8, 9});
  CHECK(outer.stop == 0.5);
  CHECK(outer.model == "/tmp/b c");
  CHECK(outer.lora.rank == 4);
  REQUIRE(outer.more.size() == 2);
  CHECK(outer.more[0].rank == 2);
  CHECK(outer.more[1].rank == 16);

  auto defaults = read<Outer>(Config::parse(""));
  CHECK(defaults.learning_rate == 1e-5);
  CHECK(!defaults.stop);
  CHECK(read<Outer>(Config::parse("lora:\nstop: ~\n")).lora.rank == 16);
}

TEST_CASE("config errors name file, line, column and what would be right") {
  CHECK(error_of("seeds: [1]\nlora:\n    rnak: 3\n") ==
        "x.yaml:3:5: unknown key 'rnak' in 'lora'; did you mean 'rank'? valid keys: rank");
  CHECK(error_of("  lerning_rate: 1\n") ==
        "x.yaml:1:3: unknown key 'lerning_rate'; did you mean 'learning_rate'? valid keys: "
        "learning_rate, checkpointing, schedule, seeds, stop, model, lora, more");
  CHECK(error_of("more:\n- rank: 1\n- zzzzzz: 1\n") ==
        "x.yaml:3:3: unknown key 'zzzzzz' in 'more[1]'; valid keys: rank");
  CHECK(error_of("learning_rate: abc\n") ==
        "x.yaml:1:16: learning_rate: expected a number, got 'abc'");
  CHECK(error_of("learning_rate: \"1\"\n") ==
        "x.yaml:1:16: learning_rate: expected a number, got \"1\"");
  CHECK(error_of("learning_rate: 1e-5x\n") ==
        "x.yaml:1:16: learning_rate: expected a number, got '1e-5x'");
  CHECK(error_of("learning_rate: .nan\n") ==
        "x.yaml:1:16: learning_rate: expected a number, got '.nan'");
  CHECK(error_of("seeds:\n  - 1\n  - 1.5\n") ==
        "x.yaml:3:5: seeds[1]: expected a whole number, got '1.5'");
  CHECK(error_of("seeds: 3\n") == "x.yaml:1:8: seeds: expected a list, got '3'");
  CHECK(error_of("checkpointing: yes\n") ==
        "x.yaml:1:16: checkpointing: expected true or false, got 'yes'");
  CHECK(error_of("lora: 3\n") == "x.yaml:1:7: lora: expected a map, got '3'");
  CHECK(error_of("learning_rate:\n") ==
        "x.yaml:1:1: learning_rate: expected a number, got nothing");
  CHECK(error_of("learning_rate: 0\n") == "x.yaml:1:16: 'learning_rate' must be > 0, got 0");
  CHECK(error_of("stop: 1.5\n") == "x.yaml:1:7: 'stop' must be 0 to 1, got 1.5");
  CHECK(error_of("seeds: [1, -1]\n") == "x.yaml:1:12: 'seeds' must be >= 0, got -1");
  CHECK(error_of("schedule: cosin\n") ==
        "x.yaml:1:11: 'schedule' cannot be 'cosin'; did you mean 'cosine'? valid values: constant, "
        "linear, cosine");
  CHECK(message_of([] { Config::parse("a: {b: 1}\n", "x.yaml")["a"]["c"]; }) ==
        "x.yaml:1:4: missing key 'c' in 'a'");
}

TEST_CASE("config refuses duplicate keys, broken YAML, second documents and missing files") {
  CHECK(error_of("lora:\n  rank: 1\n  rank: 2\n") ==
        "x.yaml:3:3: key 'rank' is given twice (first at x.yaml:2:3)");
  CHECK(error_of("stop: 1\nlora: {}\nstop: 1\n") ==
        "x.yaml:3:1: key 'stop' is given twice (first at x.yaml:1:1)");
  CHECK_THAT(error_of("seeds: [1, 2\nlora: 3\n"),
             Catch::StartsWith("x.yaml:2:") && Catch::Contains("not valid YAML"));
  CHECK(error_of("stop: 1\nlora: \xE4\n") == "x.yaml:2:7: not UTF-8");
  CHECK_THAT(error_of("stop: 1\n---\nstop: 0\n"), Catch::Contains("a second document"));
  CHECK_THAT(error_of("? [a, b]\n: 1\n"), Catch::Contains("a key must be plain text"));
  CHECK_THAT(message_of([] { Config::load("/nowhere/x.yaml"); }),
             Catch::Contains("/nowhere/x.yaml") && Catch::Contains("No such file"));
}

TEST_CASE("config aliases are copies, and cannot blow up") {
  auto config = Config::parse("a: &x {rank: 3}\nb: *x\n", "x.yaml", {"b.rank=4"});
  CHECK(read<Inner>(config["a"]).rank == 3);
  CHECK(read<Inner>(config["b"]).rank == 4);

  std::string bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 9; ++i) {
    std::vector<std::string> aliases(10, fmt::format("*a{}", i - 1));
    bomb += fmt::format("a{}: &a{} [{}]\n", i, i, fmt::join(aliases, ", "));
  }
  CHECK_THAT(message_of([&] { Config::parse(bomb); }), Catch::Contains("too large"));
  CHECK_THAT(message_of([] { Config::parse("a: &a [*a]\n"); }), Catch::Contains("alias"));
}

TEST_CASE("config overrides replace, create and reach into lists") {
  auto config = Config::parse("seeds: [1, 2]\nlora: {rank: 2}\n", "x.yaml",
                              {"lora.rank=8", "seeds.1=5", "stop=0.25", "more=[{rank: 3}]"});
  auto outer = read<Outer>(config);
  CHECK(outer.lora.rank == 8);
  CHECK(outer.seeds == std::vector<int64_t>{1, 5});
  CHECK(outer.stop == 0.25);
  CHECK(outer.more.at(0).rank == 3);
  CHECK(read<Outer>(Config::parse("", "x.yaml", {"lora.rank=3"})).lora.rank == 3);
}

TEST_CASE("config errors of an override name the override") {
  CHECK(error_of("", {"lora.rank=two"}) ==
        "command line, 'lora.rank=two': lora.rank: expected a whole number, got 'two'");
  CHECK_THAT(error_of("", {"lora.rnak=2"}),
             Catch::StartsWith("command line, 'lora.rnak=2': unknown key 'rnak' in 'lora'; did you "
                               "mean 'rank'?"));
  CHECK_THAT(error_of("", {"lora=[1"}),
             Catch::StartsWith("command line, 'lora=[1': not valid YAML"));
  CHECK_THAT(error_of("", {"lora"}), Catch::Contains("expected key=value"));
  CHECK_THAT(error_of("", {"=1"}), Catch::Contains("expected key=value"));
  CHECK_THAT(error_of("", {"a..b=1"}), Catch::Contains("an empty key"));
  CHECK_THAT(error_of("stop: 1\n", {"stop.x=1"}), Catch::Contains("'stop' is '1' (x.yaml:1:7)"));
  CHECK_THAT(error_of("seeds: [1]\n", {"seeds.1=1"}), Catch::Contains("'seeds' is a list of 1"));
}

TEST_CASE("config: several settings share one map") {
  Inner inner;
  Method method;
  read_into(Config::parse("name: npo\nrank: 5\n"), method, inner);
  CHECK(method.name == "npo");
  CHECK(inner.rank == 5);
  auto both = message_of([&] { read_into(Config::parse("nam: npo\n"), method, inner); });
  CHECK_THAT(both, Catch::Contains("did you mean 'name'? valid keys: name, rank"));
}

TEST_CASE("config printed as YAML reads back the same, to the last bit") {
  Outer outer;
  outer.learning_rate = 0.1 + 0.2;
  outer.schedule = "cosine";
  outer.model = "odd: name # \"x\"\n台湾";
  outer.stop = 1.0 / 3;
  outer.seeds = {};
  outer.more = {{.rank = 2}, {.rank = 3}};
  auto back = read<Outer>(Config::parse(to_yaml(outer)));
  CHECK(back.learning_rate == outer.learning_rate);
  CHECK(back.model == outer.model);
  CHECK(back.stop == outer.stop);
  CHECK(to_json(back) == to_json(outer));
  CHECK(
      to_json(outer).dump() ==
      R"({"learning_rate":0.30000000000000004,"checkpointing":false,"schedule":"cosine","seeds":[],)"
      R"("stop":0.3333333333333333,"model":"odd: name # \"x\"\n台湾","lora":{"rank":16},)"
      R"("more":[{"rank":2},{"rank":3}]})");

  // Text that looks like something else stays text.
  for (std::string text : {"true", "1e5", "null", "", "no", "~", "- a", "inf", "a: b", "#x"}) {
    nlohmann::ordered_json json = {{"key", {{text, nlohmann::json::array({text, 1.5, true})}}}};
    CHECK(Config::parse(yaml_text(json)).json() == json);
  }
}

TEST_CASE("describe lists every field with default, help and bounds") {
  auto fields = describe<Outer>();
  REQUIRE(fields.size() == 8);
  CHECK(fields[0].name == "learning_rate");
  CHECK(fields[0].type == "number");
  CHECK(fields[0].value == "1e-05");
  CHECK(fields[0].help == "peak rate");
  CHECK(fields[0].bounds == "> 0");
  CHECK(fields[2].bounds == "constant | linear | cosine");
  CHECK(fields[3].type == "list of whole number");
  CHECK(fields[4].type == "number or null");
  CHECK(fields[4].bounds == "0 to 1");
  CHECK(fields[6].name == "lora.rank");
  CHECK(fields[6].bounds == ">= 1");
}

TEST_CASE("nearest name") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("rnak", "rank") == 1);
  std::vector<std::string> known = {"beta", "learning_rate"};
  CHECK(nearest("lerning_rate", known) == "learning_rate");
  CHECK(nearest("lerning_rate", {}) == "");
  CHECK(did_you_mean("lerning_rate", known) == "; did you mean 'learning_rate'?");
  CHECK(did_you_mean("xyzzy", known) == "");
  CHECK(did_you_mean("x", std::vector<std::string>{"a", "b"}) == "");
}

}  // namespace
}  // namespace resurface
