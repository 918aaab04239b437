#include "study/config.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/run/key.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

StudyConfig load(const std::string& removal) {  // or several, apart by a new line and "  - "
  const fs::path path =
      fs::temp_directory_path() / fmt::format("resurface_test_study_config_{}.yaml", ::getpid());
  std::ofstream(path) << "model: {fresh: suites/world}\n"
                         "data: {forget: f.jsonl, retain: r.jsonl}\n"
                         "remove:\n  - "
                      << removal << "\n";
  return load_study(path, {});
}

TEST_CASE("a removal's wrappers", "[config]") {
  const StudyConfig plain = load("{method: npo}");
  CHECK(plain.remove[0].wrap.empty());
  CHECK_FALSE(plain.resolved()["remove"][0].contains("wrap"));

  const StudyConfig wrapped = load("{method: simnpo, wrap: [{sam: {rho: 0.02}}, average]}");
  CHECK(wrapped.remove[0].wrap.sam->rho == 0.02);
  CHECK(wrapped.remove[0].wrap.average);
  const auto entry = wrapped.resolved()["remove"][0]["wrap"];
  CHECK(entry[0]["sam"]["rho"] == 0.02);
  CHECK(entry.size() == 2);

  CHECK_THROWS_WITH(load("{method: npo, wrap: [sma]}"),
                    Catch::Contains("unknown wrapper 'sma'") && Catch::Contains(".yaml:4"));
  CHECK_THROWS_WITH(load("{method: rome, wrap: [sam]}"), Catch::Contains("no forget gradient"));
  CHECK_THROWS_WITH(load("{method: retrain, wrap: [sam]}"), Catch::Contains("no forget gradient"));
}

TEST_CASE("how a removal trains", "[config]") {
  const StudyConfig study = load(
      "{method: sft, train: {optimizer: muon, muon: {ns_steps: 4}, layers: [0, 3], modules: mlp}}");
  CHECK(study.remove[0].train.muon.ns_steps == 4);
  CHECK(study.resolved()["remove"][0]["train"]["layers"].size() == 2);
  CHECK_NOTHROW(check_training(study, 4));
  CHECK_THROWS_WITH(
      check_training(study, 3),
      Catch::Contains("remove[0].train.layers[1]: the model has blocks 0 to 2, and 3 is not one") &&
          Catch::Contains(".yaml:4:"));
  CHECK_THROWS_WITH(load("{method: sft, train: {layers: [-1]}}"), Catch::Contains("'layers'"));
  CHECK_THROWS_WITH(load("{method: sft, train: {optimizer: lyon}}"),
                    Catch::Contains("did you mean 'lion'"));
  CHECK_THROWS_WITH(load("{method: npo, train: {optimizer: muonclip, reach: lora}}"),
                    Catch::Contains("take muon") && Catch::Contains(".yaml:4"));
}

TEST_CASE("the chat format stands in the resolved config where it is not the checkpoint's",
          "[config]") {
  CHECK_FALSE(load("{method: npo}").resolved().contains("chat"));
  const StudyConfig asked = load("{method: npo}\nchat: {format: qwen3, thinking: \"off\"}");
  CHECK(asked.chat.format == "qwen3");
  CHECK(asked.resolved()["chat"]["thinking"] == "off");
  CHECK_THROWS_WITH(load("{method: npo}\nchat: {thinking: never}"),
                    Catch::Contains("thinking") && Catch::Contains("empty"));
  CHECK_THROWS_WITH(load("{method: npo}\nchat: {formats: plain}"), Catch::Contains("formats"));
}

TEST_CASE("the attack's later settings leave no trace in keys at their defaults", "[config]") {
  const auto json = key_json(AttackSettings{});
  for (const char* later : {"warmup", "weight_decay", "folds", "optimizer"}) {
    CHECK_FALSE(json.contains(later));
    CHECK(to_json(AttackSettings{}).contains(later));
  }
  CHECK(json["lora"].dump() == R"({"rank":16,"alpha":32.0})");
  AttackSettings settings;
  settings.optimizer = "sgd";
  settings.folds = 5;
  CHECK(key_json(settings).size() == json.size() + 2);
}

TEST_CASE("what the questions get instead of the line", "[config]") {
  CHECK(load("{method: rome}").remove[0].answer == Answer::factual);
  CHECK_FALSE(load("{method: rome}").resolved()["remove"][0].contains("answer"));
  const StudyConfig other = load("{method: memit, answer: contrary}");
  CHECK(other.remove[0].answer == Answer::contrary);
  CHECK(other.resolved()["remove"][0]["answer"] == "contrary");
  CHECK(load("{method: sft, answer: neutral}").remove[0].answer == Answer::neutral);
  CHECK_THROWS_WITH(load("{method: sft, answer: line}"),
                    Catch::Contains("factual, neutral or contrary") && Catch::Contains(".yaml:4"));
  CHECK_THROWS_WITH(load("{method: npo, answer: neutral}"), Catch::Contains("only sft and edits"));
  CHECK_THROWS_WITH(load("{method: ablation, answer: neutral}"),
                    Catch::Contains("only sft and edits"));
}

TEST_CASE("an objective's settings are read and checked", "[config]") {
  const StudyConfig study = load("{method: npo, settings: {retain_loss: kl}}");
  CHECK(study.remove[0].resolved["retain_loss"] == "kl");
  CHECK(study.remove[0].resolved["beta"] == 0.1);
  CHECK_THROWS_WITH(load("{method: npo, settings: {retain_loss: mse}}"),
                    Catch::Contains("nll") && Catch::Contains("kl"));
  CHECK_THROWS_WITH(load("{method: dpo, settings: {answers: own}}"), Catch::Contains("factual"));
  CHECK_THROWS_WITH(load("{method: rmu, settings: {layer: -2}}"), Catch::Contains("layer"));
}

TEST_CASE("a student names its teacher", "[config]") {
  const StudyConfig study = load(
      "{method: undo, settings: {teacher: npo, alpha: 0.2}}\n"
      "  - {method: undo, name: fresh, settings: {teacher: undo, student: fresh}}\n"
      "  - {method: undo, name: matched, settings: {teacher: oracle, student: trained}}\n"
      "  - {method: npo}");
  CHECK(teacher_of(study.remove[0]) == "npo");
  CHECK(teacher_of(study.remove[1]) == "undo");
  CHECK(teacher_of(study.remove[3]).empty());
  CHECK(study.remove[0].resolved["alpha"] == 0.2);
  CHECK(study.remove[0].resolved["beta"] == 0.1);

  const auto refuses = [](const std::string& removals, const std::string& place,
                          const std::string& said) {
    INFO(removals);
    CHECK_THROWS_WITH(load(removals), Catch::Contains(".yaml:" + place) && Catch::Contains(said));
  };
  refuses("{method: undo}", "4", "teacher: NAME");
  refuses("{method: undo, settings: {alpha: 0.1}}", "4", "teacher: NAME");
  refuses("{method: npo}\n  - {method: undo, settings: {teacher: npi}}",
          "5:", "no model 'npi' to learn from; did you mean 'npo'?");
  refuses("{method: npo}\n  - {method: undo, settings: {techer: npo}}", "5:", "'teacher'");
  refuses("{method: undo, settings: {teacher: undo}}", "4:", "undo <- undo");
  refuses(
      "{method: undo, name: a, settings: {teacher: b}}\n"
      "  - {method: undo, name: b, settings: {teacher: a}}",
      "4:", "a <- b <- a");
  refuses("{method: undo, settings: {teacher: oracle, student: old}}", "4:", "fresh");
  refuses("{method: undo, settings: {teacher: oracle}, train: {reach: lora}}", "4:", "in full");
  refuses("{method: undo, settings: {teacher: oracle}, wrap: [sam]}", "4:", "no forget gradient");
}

TEST_CASE("layers, and wrappers for methods that forget", "[config]") {
  const StudyConfig study = load("{method: npo, layered: {folds: 3}, wrap: [lat]}");
  CHECK(study.remove[0].layered->folds == 3);
  CHECK(study.resolved()["remove"][0]["layered"]["folds"] == 3);
  CHECK_FALSE(load("{method: npo}").resolved()["remove"][0].contains("layered"));
  CHECK_THROWS_WITH(load("{method: npo, layered: {fold: 3}}"), Catch::Contains("'folds'"));
  CHECK_THROWS_WITH(load("{method: npo, layered: {folds: 0}}"), Catch::Contains("folds"));
  for (const char* other : {"sft", "retrain", "rome"}) {
    CHECK_THROWS_WITH(load(fmt::format("{{method: {}, layered: {{folds: 2}}}}", other)),
                      Catch::Contains("only unlearning methods") && Catch::Contains(".yaml:4"));
  }
  CHECK_THROWS_WITH(load("{method: sft, wrap: [tar]}"), Catch::Contains("'sft' trains on none"));
}

}  // namespace
}  // namespace resurface
