// The configs that come with the project, read but not run.
#include <catch2/catch.hpp>
#include <set>

#include "core/run/error.h"
#include "core/run/files.h"
#include "study/inputs.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

/// Configs name their files from the root of the project.
class AtRoot {
 public:
  AtRoot() : before_(fs::current_path()) { fs::current_path(RESURFACE_SOURCE_DIR); }
  AtRoot(const AtRoot&) = delete;
  AtRoot& operator=(const AtRoot&) = delete;
  ~AtRoot() { fs::current_path(before_); }

 private:
  fs::path before_;
};

std::set<std::string> questions(const Suite& suite) {
  std::set<std::string> all;
  for (const Item& item : suite.items)
    for (const Question& question : item.questions) all.insert(question.text);
  return all;
}

}  // namespace

TEST_CASE("Findings and protocols are read, and so are their resolved configs") {
  const AtRoot root;
  const fs::path resolved = fs::temp_directory_path() / "resurface-resolved.yaml";
  for (const char* folder : {"configs/findings", "configs/protocols"}) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      INFO(entry.path());
      const StudyConfig study = load_study(entry.path(), {});
      const StudyInputs inputs = load_inputs(study);
      CHECK(attack_splits(inputs.forget.ids(), study.attack).size() ==
            static_cast<size_t>(study.attack.folds));
      atomic_write(resolved, yaml_text(study.resolved()));
      CHECK(load_study(resolved, {}).resolved() == study.resolved());
    }
  }
  fs::remove(resolved);
}

TEST_CASE("The examples on the methods' pages are read as a study's") {
  const AtRoot root;
  const fs::path path = fs::temp_directory_path() / "resurface-example.yaml";
  int64_t examples = 0;
  for (const auto& entry : fs::directory_iterator("docs/methods")) {
    INFO(entry.path());
    const std::string page = read_text(entry.path());
    const std::string fence = "```yaml\n";
    const auto begin = page.find(fence);
    if (begin == std::string::npos) continue;
    ++examples;
    std::string text = page.substr(begin + fence.size());
    text.resize(text.find("```"));
    if (text.find("remove:") == std::string::npos) text += "remove: [{method: sft}]\n";
    atomic_write(path, text);
    const auto study =
        load_study(path, {"model.fresh=suites/world", "data.forget=suites/world/forget.jsonl",
                          "data.retain=suites/world/retain.jsonl"});
    // The last is the method; a wrapper's example wraps another one, and what stands before the
    // question is a probe.
    const std::string name = entry.path().stem();
    const Removal& shown = study.remove.back();
    CHECK((shown.method == name || !shown.wrap.empty() || shown.layered ||
           shown.train.optimizer == name || shown.train.lora.variant == name ||
           !study.measure.probes.empty()));
  }
  CHECK(examples > 30);
  fs::remove(path);
}

TEST_CASE("A removal by fine-tuning can have its own text") {
  const AtRoot root;
  const StudyConfig study = load_study("configs/findings/refusal.yaml", {});
  const StudyInputs inputs = load_inputs(study);
  CHECK_FALSE(inputs.removal_text.contains("sft_lines"));
  const Suite& own = inputs.removal_text.at("sft_refused");
  CHECK(own.items.size() == 12 * 2 * 4);  // points, languages, seen questions

  // It answers what the model was taught to refuse, none of what a line answers or what is asked.
  const auto trained = questions(own);
  const auto planted = questions(inputs.text);
  CHECK(std::includes(planted.begin(), planted.end(), trained.begin(), trained.end()));
  for (const auto& question : questions(inputs.forget)) CHECK_FALSE(trained.contains(question));
  CHECK(inputs.controls.size() == 12 * 2 * 3);
  for (const OtherQuestion& asked : inputs.controls) CHECK_FALSE(trained.contains(asked.text));

  CHECK_THROWS_WITH(
      load_study("configs/findings/refusal.yaml", {"remove.0.method=npo"}),
      Catch::Matchers::Contains("only sft") && Catch::Matchers::Contains("refusal.yaml"));
  CHECK_THROWS_WITH(
      load_inputs(load_study("configs/findings/refusal.yaml",
                             {"remove.0.text.0=suites/party_lines/benign_en.jsonl"})),
      Catch::Matchers::Contains("'sft_refused'") && Catch::Matchers::Contains("'zh-Hans'"));
}

}  // namespace resurface
