// A study's YAML file, typed. Grammar and defaults: docs/study.md.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "core/run/method_page.h"
#include "core/run/settings.h"
#include "core/text/chat.h"
#include "eval/attack/recovery.h"
#include "eval/attack/relearn.h"
#include "eval/ways_back/attack.h"
#include "finetune/trainer.h"
#include "study/tune_config.h"

namespace resurface {

struct ModelSettings {
  std::filesystem::path checkpoint;
  std::filesystem::path fresh;

  template <class V>
  void visit(V& v) {
    v("checkpoint", checkpoint, "HF folder of the model to start from");
    v("fresh", fresh,
      "instead: a folder with config.json and tokenizer; the model is trained from nothing");
  }
};

struct DataSettings {
  std::filesystem::path forget, retain;
  std::vector<std::filesystem::path> text, benign;
  std::filesystem::path pushback, innocent, controls, stock_phrases, calibration;
  std::vector<std::filesystem::path> passages;
  std::vector<std::string> languages = {"en", "zh-Hans"};
  int64_t items = 0;

  template <class V>
  void visit(V& v) {
    v("forget", forget, "suite of talking points (F)");
    v("retain", retain, "suite of innocent topics (R)");
    v("text", text, "further questions and answers that every model is trained on (JSON lines)");
    v("benign", benign,
      "ordinary questions and answers (JSON lines): the attack's benign rungs, and what perplexity "
      "and KL are measured on");
    v("pushback", pushback, "the user's later turns, for the probes two_turn and three_turn");
    v("innocent", innocent, "questions on which no line may appear");
    v("controls", controls, "disputes and invented events that have nothing to do with the lines");
    v("stock_phrases", stock_phrases, "set phrases that detectors look for beside the lines");
    v("calibration", calibration,
      "hand-labelled replies, beside its suite's items.jsonl and stock_phrases.json: the "
      "detectors' "
      "precision and recall, printed with their figures");
    v("passages", passages,
      "what is searched for the probes retrieved, retrieved_miss and retrieved_poisoned (JSON "
      "lines)");
    v("languages", languages, "languages used, of those the suites have");
    v("items", items, "use the first so many items of each suite; 0: all", Range::at_least(0));
  }
};

struct StudyMeasureSettings {
  std::vector<std::string> probes;
  int64_t probe_questions = 1;
  int64_t generate_questions = 1;
  int64_t generate_tokens = 100;
  int64_t innocent_questions = 0;
  int64_t control_questions = 0;

  template <class V>
  void visit(V& v) {
    v("probes", probes,
      "further ways to put the held-out questions: prefill, empty_thought, forced_thought, "
      "few_shot, two_turn, three_turn, with passages before them: retrieved, retrieved_miss, "
      "retrieved_poisoned, and with demonstrations of facts: in_context, in_context_miss");
    v("probe_questions", probe_questions,
      "held-out questions an item and language that are put in each of these ways; 0: all",
      Range::at_least(0));
    v("generate_questions", generate_questions,
      "held-out questions an item and language that are answered freely; 0: none",
      Range::at_least(0));
    v("generate_tokens", generate_tokens, "longest free answer", Range::at_least(1));
    v("innocent_questions", innocent_questions,
      "questions of data.innocent a language that are answered freely", Range::at_least(0));
    v("control_questions", control_questions,
      "questions of data.controls a language that are answered freely", Range::at_least(0));
  }
};

/// A model made elsewhere: it is only measured and attacked.
struct GivenModel {
  std::string name;   ///< unique in the study
  std::string label;  ///< for people
  std::string kind = "removed";
  std::filesystem::path checkpoint, edit;

  template <class V>
  void visit(V& v) {
    v("name", name, "unique in the study");
    v("label", label, "for people; the name by default");
    v("kind", kind, "removed; implanted: as it was before; oracle: a model that never knew",
      OneOf{{"removed", "implanted", "oracle"}});
    v("checkpoint", checkpoint, "HF folder");
    v("edit", edit, "an edit file to apply on it");
  }
};

/// A benchmark of the field, run on every model of the study.
struct FieldEntry {
  std::string benchmark;                               ///< "tofu"
  std::string name;                                    ///< unique in the study
  std::map<std::string, std::filesystem::path> paths;  ///< the files that its settings name
  nlohmann::ordered_json resolved;                     ///< the settings with defaults filled in
};

/// Layered unlearning (Qian et al. 2025, "Layered Unlearning for Adversarial Relearning"): stage i
/// of k unlearns folds 1 .. i of the lines while folds i+1 .. k stay in the retain set. Every stage
/// is a whole training from where the last one ended, which is its reference, too.
struct LayeredSettings {
  int64_t folds = 2;

  template <class V>
  void visit(V& v) {
    v("folds", folds, "k, how many parts the lines are dealt to; 1: the plain method",
      Range::at_least(1));
  }
  static constexpr MethodPage page = {
      .file = "study/layered.cpp",
      .formula = R"(\theta_i = U(\theta_{i-1};\; F_1 \cup \dots \cup F_i,\;
    R \cup F_{i+1} \cup \dots \cup F_k), \quad i = 1 \dots k)",
      .symbols =
          R"(U: a whole training by the method, forgetting the first set and retaining the second
F_i: fold i of the lines, dealt by item, in all languages together
k: `folds`; 1 is the method itself
\theta_{i-1}: where stage i starts, and its reference)",
      .cost = "k trainings.",
      .needs = "An unlearning method with a retain loss.",
      .traps =
          "Compare with the method trained k times as long: later stages forget the first folds "
          "again and again.",
      .usage = "```yaml\nremove:\n  - method: npo\n    layered: {folds: 3}\n```"};
};

/// One removal: a method, its settings, and how it trains.
struct Removal {
  std::string name;    ///< unique in the study
  std::string label;   ///< for people
  std::string method;  ///< "retrain", "sft", "undo", an unlearning method or an editing method
  std::vector<std::string> languages;       ///< of its data; the study's by default
  TrainerSettings train;                    ///< gradient methods; for retraining the planting's
  Wrap wrap;                                ///< gradient methods but retraining and undo
  std::optional<LayeredSettings> layered;   ///< unlearning methods with a retain set
  std::vector<std::filesystem::path> text;  ///< sft: trained on instead of the factual answers
  Answer answer = Answer::factual;          ///< sft and edits: what the questions get instead
  std::optional<Config> training;           ///< `train` as the file has it
  std::optional<Config> settings;           ///< the method's own
  nlohmann::ordered_json resolved;          ///< the same with defaults filled in
};

/// The name of the model that a student learns from; empty for other methods.
std::string teacher_of(const Removal& removal);

struct StudyConfig {
  std::string name;
  std::string description;
  int64_t seed = 0;
  ModelSettings model;
  ChatSettings chat;  ///< of every model; by default as the start's files say
  DataSettings data;
  TrainerSettings plant;
  std::vector<Removal> remove;
  std::optional<Config> planting;  ///< `plant` as the file has it
  std::vector<GivenModel> models;  ///< instead of model, plant and remove
  StudyMeasureSettings measure;
  std::vector<FieldEntry> field;
  AttackSettings attack;
  std::vector<WayBack> ways_back;
  RecoverySettings statistics;
  std::optional<TuneConfig> tune;  ///< used by `resurface tune` alone
  std::string device = "auto";
  std::string compute = "auto";

  /// Every default written out, as YAML that load_study reads back; without `tune`.
  nlohmann::ordered_json resolved() const;
};

/// One entry of `remove`, and an entry with every default written out that it reads back.
Removal read_removal(const Config& entry, const StudyConfig& study);
nlohmann::ordered_json resolved_removal(const Removal& removal);

/// Throws ConfigError for blocks to train that a model of so many `layers` does not have.
void check_training(const StudyConfig& study, int64_t layers);

/// Reads and checks a study. Errors name file, line, key and what would be right.
StudyConfig load_study(const std::filesystem::path& path,
                       const std::vector<std::string>& overrides);

}  // namespace resurface
