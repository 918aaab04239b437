// Supervised fine-tuning: the token-mean NLL of the answers, prompts never counted. The training
// examples go into TrainData::forget.
//
// Retraining without the forget set (the oracle) is this objective too, from the same start: the
// study that picks the data leaves the forget set out.
#pragma once

#include "finetune/trainer.h"

namespace resurface {

inline const Needs sft_needs{};

inline Loss sft(Model& model, const ForgetRetainBatch& batch) {
  return {.forget = model.token_nll(batch.forget)};
}

}  // namespace resurface
