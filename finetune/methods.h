// The removals that are plain training: what they train on is the study's business, so they have no
// objective of their own and no settings beyond the trainer's.
#pragma once

#include <array>

namespace resurface {

struct FinetuneMethod {
  const char* name;
  const char* summary;
};

inline constexpr std::array<FinetuneMethod, 2> kFinetuneMethods = {{
    {"retrain",
     "train again from the same start without the lines: the most thorough, the dearest"},
    {"sft", "fine-tune on factual answers to the same questions"},
}};

}  // namespace resurface
