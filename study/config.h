// A study's YAML file, typed. Grammar and defaults: docs/study.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "core/run/settings.h"
#include "eval/attack/recovery.h"
#include "eval/attack/relearn.h"
#include "finetune/trainer.h"

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
  std::vector<std::string> languages = {"en", "zh-Hans"};
  int64_t items = 0;

  template <class V>
  void visit(V& v) {
    v("forget", forget, "suite of talking points (F)");
    v("retain", retain, "suite of innocent topics (R)");
    v("text", text, "further questions and answers that every model is trained on (JSON lines)");
    v("benign", benign, "questions and answers of the attack's benign rung (JSON lines)");
    v("languages", languages, "languages used, of those the suites have");
    v("items", items, "use the first so many items of each suite; 0: all", Range::at_least(0));
  }
};

struct StudyMeasureSettings {
  int64_t generate_questions = 1;
  int64_t generate_tokens = 100;

  template <class V>
  void visit(V& v) {
    v("generate_questions", generate_questions,
      "held-out questions an item and language that are answered freely; 0: none",
      Range::at_least(0));
    v("generate_tokens", generate_tokens, "longest free answer", Range::at_least(1));
  }
};

/// One removal: a method, its settings, and how it trains.
struct Removal {
  std::string name;    ///< unique in the study
  std::string label;   ///< for people
  std::string method;  ///< "retrain", "sft", an unlearning method or an editing method
  std::vector<std::string> languages;  ///< of its data; the study's by default
  TrainerSettings train;               ///< gradient methods; for retraining the planting's
  std::optional<Config> settings;      ///< the method's own
  nlohmann::ordered_json resolved;     ///< the same with defaults filled in
};

struct StudyConfig {
  std::string name;
  std::string description;
  int64_t seed = 0;
  ModelSettings model;
  DataSettings data;
  TrainerSettings plant;
  std::vector<Removal> remove;
  StudyMeasureSettings measure;
  AttackSettings attack;
  RecoverySettings statistics;
  std::string device = "auto";
  std::string compute = "auto";

  /// Every default written out, as YAML that load_study reads back.
  nlohmann::ordered_json resolved() const;
};

/// Reads and checks a study. Errors name file, line, key and what would be right.
StudyConfig load_study(const std::filesystem::path& path,
                       const std::vector<std::string>& overrides);

}  // namespace resurface
