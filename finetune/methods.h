// The removals that are training by other means than an unlearning objective: what they train on is
// the study's business.
#pragma once

#include <array>

#include "finetune/undo.h"

namespace resurface {

struct FinetuneMethod {
  const char* name;
  const char* paper;
  const char* summary;
  std::vector<FieldInfo> (*describe)();  ///< null: no settings beyond the trainer's
};

inline constexpr std::array<FinetuneMethod, 3> kFinetuneMethods = {{
    {"retrain", "",
     "train again from the same start without the lines: the most thorough, the dearest", nullptr},
    {"sft", "", "fine-tune on factual answers to the same questions", nullptr},
    {"undo", "Lee et al., Distillation Robustifies Unlearning (2025)",
     "distil another removal's model into a student mixed with noise, trained or fresh",
     [] { return describe<UndoSettings>(); }},
}};

}  // namespace resurface
