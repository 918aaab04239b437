// Each benchmark on a tiny Llama and fixtures in the published formats, against the same figures
// from torch, transformers and the references' libraries (scripts/golden_field.py, golden_mcq.py).
#include <unistd.h>
#include <catch2/catch.hpp>

#include <fstream>

#include "core/run/files.h"
#include "eval/field/field.h"
#include "eval/field/records.h"
#include "eval/field/tofu.h"

using namespace resurface;
using Json = nlohmann::ordered_json;

namespace {

const std::string kData = RESURFACE_TEST_DATA "/field/";

struct Fixture {
  Model model = Model::load(kData + "model");
  Model oracle = Model::load(kData + "oracle");
  Tokenizer tokenizer = Tokenizer::load(RESURFACE_TEST_DATA "/text/smollm");
  ChatFormat chat = ChatFormat::named("plain");

  FieldInputs inputs(bool others = true) const {
    FieldInputs all{model, tokenizer, chat};
    if (others) all.before = all.oracle = all.reference = &oracle;
    return all;
  }

  /// `settings`: YAML with @ for the folder of the fixtures.
  Json run(const std::string& name, std::string settings, bool others = true) const {
    for (size_t at; (at = settings.find('@')) != std::string::npos;) settings.replace(at, 1, kData);
    return field_benchmark(name).run(Config::parse(settings), inputs(others));
  }
};

const char* const kTofu =
    "{name: tofu, forget: '@tofu_forget.json', retain: '@tofu_retain.json', real_authors: "
    "'@tofu_real_authors.json', world_facts: '@tofu_world_facts.json', new_tokens: 14}";
const char* const kMuse =
    "{verbmem: '@muse_verbmem.json', knowmem_forget: '@muse_knowmem.json', knowmem_forget_icl: "
    "'@muse_icl.json', knowmem_retain: '@muse_knowmem.json', privleak_forget: "
    "'@muse_forget.json', privleak_holdout: '@muse_holdout.json', verbmem_tokens: 20, "
    "knowmem_tokens: 12}";

/// Everything that `expected` has is in `actual`, numbers to 1e-4.
void check(const nlohmann::json& expected, const Json& actual, const std::string& path) {
  INFO(path);
  if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      INFO(key);
      REQUIRE(actual.contains(key));
      check(value, actual[key], path + "." + key);
    }
  } else if (expected.is_array()) {
    REQUIRE(actual.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      check(expected[i], actual[i], fmt::format("{}[{}]", path, i));
    }
  } else if (expected.is_number()) {
    REQUIRE(actual.is_number());
    CHECK(actual.get<double>() == Approx(expected.get<double>()).epsilon(1e-4).margin(1e-5));
  } else {
    CHECK(actual == Json(expected));
  }
}

/// A file that goes away with the test.
struct TemporaryFile {
  std::filesystem::path path;
  explicit TemporaryFile(const std::string& text)
      : path(std::filesystem::temp_directory_path() /
             fmt::format("resurface_field_{}.json", ::getpid())) {
    std::ofstream(path) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path); }
};

}  // namespace

TEST_CASE("Each benchmark gives the figures of its reference") {
  const Fixture fixture;
  auto golden = read_json(kData + "golden.json");
  golden["mcq"] = read_json(kData + "golden_mcq.json").at("letters 0");
  const std::map<std::string, std::string> settings = {
      {"tofu", kTofu},
      {"muse", kMuse},
      {"membership", "{labelled: '@wikimia.jsonl'}"},
      {"counterfact",
       "{data: '@counterfact.json', snippets: '@attribute_snippets.json', generation_tokens: 45, "
       "generation_top_k: 1}"},
      {"zsre", "{data: '@zsre.json'}"},
      {"easyedit", "{data: '@easyedit.json'}"},
      {"mcq", "{data: '@mcq.jsonl'}"}};
  REQUIRE(settings.size() == field_benchmarks().size());
  for (const auto& [name, text] : settings) {
    const auto result = fixture.run(name, text);
    check(golden.at(name), result, name);
    CHECK(result.at("benchmark") == name);
    CHECK(result.at("settings").at("name") == name);
    // Batches are only batches.
    const auto one =
        fixture.run(name, text.substr(0, text.size() - 1) + ", batch_tokens: 1, batch_prompts: 1}");
    check(golden.at(name), one, name);
  }
}

TEST_CASE("Multiple choice: letters and texts, with and without worked examples") {
  const Fixture fixture;
  const auto golden = read_json(kData + "golden_mcq.json");
  REQUIRE(golden.size() == 4);
  for (const auto& [name, expected] : golden.items()) {
    const auto settings =
        fmt::format("{{data: '@mcq.jsonl', score: {}{}}}", name.substr(0, name.find(' ')),
                    name.back() == '1' ? ", dev: '@mcq_dev.jsonl', shots: 1" : "");
    check(expected, fixture.run("mcq", settings), name);
  }
  // The length in characters and in bytes choose differently here.
  const auto& texts = golden.at("texts 1").at("aggregates");
  CHECK(texts.at("acc_norm") != texts.at("acc_bytes"));
  CHECK(texts.at("acc_norm") != texts.at("acc"));
}

TEST_CASE("Multiple choice: the forms in which questions are published") {
  const Fixture fixture;
  const auto run = [&](const std::string& text, const std::string& settings = "") {
    const TemporaryFile file(text);
    return fixture.run("mcq", fmt::format("{{data: '{}'{}}}", file.path.string(), settings));
  };
  const auto mmlu = run("[{\"question\": \"q\", \"choices\": [\"x y\", \"z\"], \"answer\": 1}]");
  const auto arc =
      run("{\"id\": 1, \"question\": \"q\", \"choices\": {\"text\": [\"x y\", \"z\"], \"label\": "
          "[\"1\", \"2\"]}, \"answerKey\": \"2\"}");
  CHECK(mmlu.at("items") == arc.at("items"));
  CHECK(mmlu.at("items")[0].at("answer") == 1);
  CHECK(mmlu.at("aggregates").at("acc_stderr").is_null());
  CHECK_FALSE(mmlu.at("aggregates").contains("subjects"));
  // A subject stands before the question; the setting gives it where the record does not.
  const auto about = [&](const std::string& field, const std::string& settings) {
    return run("{\"question\": \"q\", \"choices\": [\"x y\", \"z\"], \"answer\": \"B\"" + field +
                   "}",
               settings)
        .at("items")[0];
  };
  CHECK(about("", ", subject: old_rome") == about(", \"subject\": \"old_rome\"", ""));
  CHECK(about("", ", subject: old_rome") != mmlu.at("items")[0]);
}

TEST_CASE("Teacher-forced, compared and free results stand side by side") {
  const Fixture fixture;
  const auto zsre = fixture.run("zsre", "{data: '@zsre.json', limit: 1}");
  REQUIRE(zsre.at("items").size() == 1);
  const auto& efficacy = zsre.at("aggregates").at("efficacy");
  for (const auto* key :
       {"argmax_share", "exact", "probability", "prefers", "generated_match", "contains"}) {
    CHECK(efficacy.contains(key));
  }
  const auto edits = fixture.run("easyedit", "{data: '@easyedit.json', new_tokens: 0}", false);
  CHECK_FALSE(edits.at("aggregates").at("reliability").contains("generated_match"));
  CHECK_FALSE(edits.at("aggregates").at("locality").at("neighborhood").contains("unchanged"));
}

TEST_CASE("Against itself a model has forget quality 1, privleak 0, and every token unchanged") {
  const Fixture fixture;
  FieldInputs inputs = fixture.inputs();
  inputs.before = inputs.oracle = inputs.reference = &fixture.model;
  const auto run = [&](const std::string& name, std::string settings) {
    for (size_t at; (at = settings.find('@')) != std::string::npos;) settings.replace(at, 1, kData);
    return field_benchmark(name).run(Config::parse(settings), inputs).at("aggregates");
  };
  CHECK(run("tofu", "{forget: '@tofu_forget.json', new_tokens: 1}").at("forget_quality") == 1);
  CHECK(run("muse",
            "{privleak_forget: '@muse_forget.json', privleak_holdout: "
            "'@muse_holdout.json'}")
            .at("privleak")
            .at("privleak") == 0);
  CHECK(run("membership", "{members: '@muse_forget.json', nonmembers: '@muse_holdout.json'}")
            .at("auc")
            .at("reference") == 0.5);
  CHECK(run("zsre", "{data: '@zsre.json'}").at("unchanged") == 1);
  const auto locality = run("easyedit", "{data: '@easyedit.json'}").at("locality");
  CHECK(locality.at("neighborhood").at("unchanged") == 1);
  CHECK(locality.at("neighborhood").at("generated_unchanged") == 1);
}

TEST_CASE("TOFU: the oracle's figures from a log") {
  const Fixture fixture;
  const auto whole = fixture.run("tofu", kTofu);
  // Our own output; then TOFU's and open-unlearning's logs of the same figures.
  const Json ours = field_benchmark("tofu").run(
      Config::parse("{forget: '" + kData + "tofu_forget.json', new_tokens: 1}"),
      {fixture.oracle, fixture.tokenizer, fixture.chat});
  Json tofu, open;
  for (const auto& item : ours.at("items")) {
    const auto index = std::to_string(item.at("index").get<int>());
    auto& log = tofu["eval_log_forget.json"];
    log["avg_paraphrased_loss"][index] = item.at("nll_paraphrase");
    log["average_perturb_loss"][index] = item.at("nll_perturbed");
    open["forget_truth_ratio"]["value_by_index"][index]["score"] = item.at("truth_ratio");
  }
  for (const Json& log : {ours, tofu, open}) {
    const TemporaryFile file(log.dump());
    CHECK(read_truth_ratios(file.path).size() == 4);
    const auto settings =
        fmt::format("{{forget: '@tofu_forget.json', oracle_log: '{}'}}", file.path.string());
    const auto again =
        fixture.run("tofu", settings.substr(0, settings.size() - 1) + ", new_tokens: 1}", false);
    CHECK(again.at("aggregates").at("forget_quality") ==
          whole.at("aggregates").at("forget_quality"));
  }
  const TemporaryFile other("{\"something\": 1}");
  CHECK_THROWS_WITH(read_truth_ratios(other.path), Catch::Contains("forget_truth_ratio"));
}

TEST_CASE("Records with a blank answer are left out, and counted") {
  const Fixture fixture;
  const std::string record =
      "{\"src\": \"Who?\", \"rephrase\": \"Who was it?\", \"answers\": [\"Ada\"], \"loc\": "
      "\"who\", "
      "\"loc_ans\": \"Tom\", \"alt\": ";
  const TemporaryFile file(record + "\"\"}\n" + record + "\"Lena\"}\n");
  for (const auto* name : {"zsre", "easyedit"}) {
    const auto target = name == std::string("zsre") ? ", target: alt" : "";
    const auto result =
        fixture.run(name, fmt::format("{{data: '{}'{}}}", file.path.string(), target));
    CHECK(result.at("aggregates").at("records") == 1);
    CHECK(result.at("aggregates").at("skipped") == 1);
  }
  const auto answers = fixture.run("zsre", fmt::format("{{data: '{}'}}", file.path.string()));
  CHECK(answers.at("aggregates").at("records") == 2);
}

TEST_CASE("Sampled texts: the same seed gives the same, another another") {
  const Fixture fixture;
  const auto texts = [&](int seed) {
    return fixture
        .run("counterfact", fmt::format("{{data: '@counterfact.json', new_tokens: 0, "
                                        "generation_tokens: 40, seed: {}}}",
                                        seed))
        .at("items")[0]
        .at("texts");
  };
  CHECK(texts(1) == texts(1));
  CHECK(texts(1) != texts(2));
}

TEST_CASE("Texts beyond the context are cut, and counted") {
  const Fixture fixture;
  std::string text = "[\"";
  for (int i = 0; i < 300; ++i) text += "word ";
  const TemporaryFile file(text + "\", \"A short text.\"]");
  const auto result = fixture.run("membership", fmt::format("{{members: '{}', nonmembers: "
                                                            "'@muse_holdout.json'}}",
                                                            file.path.string()));
  CHECK(result.at("aggregates").at("truncated") == 1);
  CHECK(result.at("items")[0].at("tokens") == 255);
}

TEST_CASE("Bad files: the message names file, record and field") {
  const Fixture fixture;
  const auto fails = [&](const std::string& name, const std::string& key, const std::string& text,
                         const std::string& message) {
    const TemporaryFile file(text);
    CHECK_THROWS_WITH(fixture.run(name, fmt::format("{{{}: '{}'}}", key, file.path.string())),
                      Catch::Contains(file.path.string()) && Catch::Contains(message));
  };
  fails("tofu", "forget", "{\"question\": \"q\", \"answer\": \"a\", \"paraphrased_answer\": \"p\"}",
        ":1: missing key 'perturbed_answer'");
  fails("tofu", "forget", "\n{\"question\": \"q\", \"answer\": 5, \"perturbed_answer\": [\"x\"]}",
        ":2: answer: expected a string, got 5");
  fails("tofu", "retain", "{\"question\": \"q\", \"answer\": \"a\", \"perturbed_answer\": [\"x\"]}",
        ":1: missing key 'paraphrased_answer'");
  fails("muse", "verbmem", "[{\"prompt\": \"a\", \"gt\": \"b\"}, {\"prompt\": \"a\"}]",
        "[1]: missing key 'gt'");
  fails("muse", "knowmem_forget", "[{\"question\": \"\"}]", "[0].question: expected some text");
  fails("membership", "labelled", "{\"input\": \"a b c\", \"label\": 2}", "expected 0 or 1, got 2");
  fails("membership", "labelled", "{\"input\": \"a b c\", \"label\": 1}", "got 1 and 0");
  fails("counterfact", "data", "[{\"requested_rewrite\": {\"target_new\": {\"str\": \"x\"}}}]",
        "[0].requested_rewrite: missing key 'target_true'");
  fails("zsre", "data", "[{\"answers\": []}]", "[0].answers: expected at least one text");
  fails("zsre", "data", "[{\"answers\": [\"a\"], \"src\": \"q\"}]", "[0]: missing key 'rephrase'");
  fails("easyedit", "data", "[{\"prompt\": \"p\"}]", "[0]: missing key 'target_new'");
  fails("easyedit", "data",
        "[{\"prompt\": \"p\", \"target_new\": \"t\", \"locality\": {\"k\": {\"prompt\": [\"a\", "
        "\"b\"], \"ground_truth\": [\"c\"]}}}]",
        "[0].locality.k.ground_truth: expected 2 answers");
  const auto question = [&](const std::string& choices, const std::string& answer) {
    return fmt::format("{{\"question\": \"q\", \"choices\": {}, {}}}", choices, answer);
  };
  const std::string two = "[\"x\", \"y\"]";
  fails("mcq", "data", question(two, "\"answer\": 2"), "index of 0 to 1 or a letter of A to B");
  fails("mcq", "data", question(two, "\"answer\": \"C\""), ":1: answer: expected");
  fails("mcq", "data", question(two, "\"answer\": -1"), "got -1");
  fails("mcq", "data", question(two, "\"target\": 1"), "missing key 'answer'");
  fails("mcq", "data", question("[\"x\"]", "\"answer\": 0"), "choices: expected 2 to 26 choices");
  fails("mcq", "score: texts, data", question("[\"x\", \"\"]", "\"answer\": 0"),
        "choices[1]: expected");
  fails("mcq", "data",
        question("{\"text\": [\"x\", \"y\"], \"label\": [\"A\", \"B\"]}", "\"answerKey\": \"C\""),
        "answerKey: expected one of");
  fails("mcq", "shots: 1, data: '" + kData + "mcq.jsonl', dev",
        question(two, "\"answer\": 0, \"subject\": \"world facts\""),
        "expected 1 worked examples about 'invented authors', got 0");
  fails("zsre", "data", "[]", "no records");
  fails("zsre", "data", "", "no records");
  fails("zsre", "data", "[{]", "not valid JSON");
}

TEST_CASE("Bad settings") {
  const Fixture fixture;
  CHECK_THROWS_WITH(field_benchmark("tofo"), Catch::Contains("did you mean 'tofu'"));
  CHECK_THROWS_AS(fixture.run("tofu", "{}"), ConfigError);
  CHECK_THROWS_AS(fixture.run("muse", "{privleak_forget: x}"), ConfigError);
  CHECK_THROWS_AS(fixture.run("membership", "{members: x}"), ConfigError);
  CHECK_THROWS_WITH(fixture.run("zsre", "{dat: x}"), Catch::Contains("dat"));
  CHECK_THROWS_WITH(fixture.run("zsre", "{data: '@none.json'}"), Catch::Contains("none.json"));
  CHECK_THROWS_WITH(fixture.run("tofu", "{forget: '@tofu_forget.json', new_tokens: 250}"),
                    Catch::Contains("exceed the model's context"));
  CHECK_THROWS_WITH(fixture.run("mcq", "{data: '@mcq.jsonl', shots: 1}"),
                    Catch::Contains("dev and shots"));
  CHECK_THROWS_AS(fixture.run("membership", "{labelled: x, members: y}"), ConfigError);
  const auto paths = field_benchmark("membership").paths;
  CHECK_THROWS_AS(paths(Config::parse("{members: x}")), ConfigError);
  CHECK(paths(Config::parse("{members: x, nonmembers: y, reference: z}")) ==
        std::map<std::string, std::filesystem::path>{
            {"members", "x"}, {"nonmembers", "y"}, {"reference", "z"}});
  const std::string page =
      read_text(std::filesystem::path(RESURFACE_SOURCE_DIR) / "docs" / "field_metrics.md");
  for (const auto& benchmark : field_benchmarks()) {
    for (const auto& field : benchmark.describe()) {
      INFO(benchmark.name << "." << field.name);
      CHECK(page.find("`" + field.name + "`") != std::string::npos);
    }
    CHECK_FALSE(benchmark.main.empty());
    CHECK(benchmark.resolve(Config::parse("{}")).at("name") == benchmark.name);
    CHECK(benchmark.describe().size() > 6);
    CHECK_FALSE(benchmark.files.empty());
  }
}
