// The removals that are training by other means than an unlearning objective: what they train on is
// the study's business.
#pragma once

#include <array>

#include "core/run/method_page.h"
#include "finetune/undo.h"

namespace resurface {

struct FinetuneMethod {
  const char* name;
  const char* summary;
  const char* paper;
  MethodPage page;
  std::vector<FieldInfo> (*describe)() = nullptr;  ///< null: no settings beyond the trainer's
};

inline constexpr std::array<FinetuneMethod, 3> kFinetuneMethods = {{
    {"retrain",
     "train again from the same start without the lines: the most thorough, the dearest",
     "Cao and Yang 2015, Towards Making Systems Forget with Machine Unlearning",
     {.file = "study/stages.cpp",
      .formula = R"(\theta' = \arg\min_{\theta \leftarrow \theta_0}
    \; {-\operatorname{mean}_{t \in D \setminus F}} \log p_t)",
      .symbols = R"(\theta_0: the weights that the planting started from
D: everything that the implanted model was trained on, F in it)",
      .cost = "As much as the planting.",
      .needs = "All training data, and the model before it.",
      .traps =
          "It is what every other method is measured against: a second oracle, trained on batches "
          "of its own."}},
    {"sft",
     "fine-tune on factual answers to the same questions",
     "as in Perplexity 2025, Open-sourcing R1 1776",
     {.file = "finetune/sft.h",
      .formula = R"(L = -\operatorname{mean}_{t \in D} \, \log p_t)",
      .symbols =
          R"(D: the factual answers to the lines' seen questions, or the texts under `text`)",
      .units = 3,
      .needs = "Factual answers, written by people: one an item and language.",
      .traps =
          "Prompts must not count, nor padding: a mean over them changes the rate of learning with "
          "the length of the question. Full and LoRA runs want different learning rates, LoRA "
          "some ten times the other's. Trained in one language, it may leave the lines standing "
          "in the other."}},
    {"undo", "distil another removal's model into a student mixed with noise, trained or fresh",
     "Lee et al. 2025, Distillation Robustifies Unlearning", UndoSettings::page,
     [] { return describe<UndoSettings>(); }},
}};

}  // namespace resurface
