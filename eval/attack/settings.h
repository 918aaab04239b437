#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/run/settings.h"
#include "finetune/trainer.h"

namespace resurface {

struct AttackSettings {
  AttackSettings() = default;  // as TrainerSettings
  std::vector<std::string> rungs = {"a", "b", "d"};
  std::vector<std::string> reach = {"full", "lora"};
  std::vector<double> rates_full = {1e-6, 3e-6, 1e-5, 3e-5, 1e-4};
  std::vector<double> rates_lora = {1e-5, 3e-5, 1e-4, 3e-4, 1e-3};
  std::vector<std::string> schedules = {"constant"};
  std::vector<int64_t> seeds = {0, 1, 2};
  int64_t steps = 32;
  int64_t epochs = 0;
  int64_t measure_every = 0;
  int64_t batch_size = 8;
  int64_t examples = 0;
  double clip = 1;
  double warmup = 0;
  double weight_decay = 0;
  std::string optimizer = "adamw";
  LoraSettings lora;
  std::string compute = "auto";
  double train_share = 0.5;
  int64_t folds = 1;
  int64_t split_seed = 0;
  int64_t test_questions = 1;
  int64_t utility_items = 0;
  double utility_bound = 0.8;
  bool pick_rate_on_first_seed = true;
  int64_t score_tokens = 2048;

  /// For key_json (core/run/key.h).
  static constexpr std::array kLater = {"/warmup", "/weight_decay", "/folds", "/optimizer",
                                        "/lora/variant"};

  template <class V>
  void visit(V& v) {
    v("rungs", rungs,
      "what the attacker trains on. a: the lines themselves; b: other lines of the campaign; c: "
      "same syntax, other content; d: benign text; with a language: a/en ... e/en (e: benign text, "
      "tested in the other languages)");
    v("reach", reach, "full and/or lora: which parameters the attacker trains");
    v("rates_full", rates_full, "learning rates of full fine-tuning");
    v("rates_lora", rates_lora, "learning rates of LoRA");
    v("schedules", schedules, "of the learning rate: constant, linear, cosine");
    v("seeds", seeds, "of the order of examples and of fresh adapters");
    v("steps", steps, "optimiser steps; measured at 1, 2, 4, 8, ... and the last",
      Range::at_least(1));
    v("epochs", epochs, "passes over the attacker's text, instead of steps; 0: off",
      Range::at_least(0));
    v("measure_every", measure_every, "measure after every so many steps too; 0: off",
      Range::at_least(0));
    v("batch_size", batch_size, "examples a step", Range::at_least(1));
    v("examples", examples, "how many examples the attacker has, drawn by seed; 0: all",
      Range::at_least(0));
    v("clip", clip, "largest gradient norm; 0: off", Range::at_least(0));
    v("warmup", warmup, "share of all steps with a linearly rising rate", Range::between(0, 1));
    v("weight_decay", weight_decay, "decoupled, on matrices", Range::at_least(0));
    v("optimizer", optimizer, "the attacker's, with the trainer's defaults",
      OneOf{{"adamw", "muon", "sgd", "lion"}});
    v("lora", lora, "the attacker's adapters");
    v("compute", compute, "precision of the attack's training", OneOf{{"auto", "fp32", "bf16"}});
    v("train_share", train_share, "share of the lines that the attacker holds (T)",
      Range::between(0, 1));
    v("folds", folds,
      "more than 1: the lines are dealt to so many parts, and each in turn is V, the others T; "
      "train_share is not used",
      Range::at_least(1));
    v("split_seed", split_seed, "of the split of lines into T and V");
    v("test_questions", test_questions, "held-out questions an item and language; 0: all",
      Range::at_least(0));
    v("utility_items", utility_items, "retain items that utility is measured on; 0: all",
      Range::at_least(0));
    v("utility_bound", utility_bound, "least share of the retained tokens' probability",
      Range::between(0, 1));
    v("pick_rate_on_first_seed", pick_rate_on_first_seed,
      "run all rates and schedules with the first seed and the others only at the one that "
      "recovered most");
    v("score_tokens", score_tokens, "tokens scored at once", Range::at_least(1));
  }
};

}  // namespace resurface
