// What objectives compare with: the model as it was before training. It is computed once, and no
// second model is held:
// - log-probs of answers: one float a sequence;
// - the residual stream at the scored tokens' rows: d floats a scored token. The whole vocabulary's
//   logits are made of it in each step by a frozen copy of the final norm and the head (no copy
//   where the head does not train): exact, at the head's cost, where kept logits would take vocab
//   floats a scored token and a second model its whole memory and a forward pass a step;
// - the residual stream before the first block that trains: d floats a token.
#pragma once

#include "finetune/trainer.h"

namespace resurface {

class Reference {
 public:
  /// To be made before anything trains, with requires_grad set on what will: copies the head here
  /// if it is needed and trains. Compute dtype as the model's.
  Reference(const Model& model, const Needs& needs, const TrainData& data);

  /// Computes everything with the model as it is.
  void compute();
  /// What compute() made, on the CPU, for a run that goes on later; restore() instead of compute().
  NamedTensors state() const;
  void restore(const NamedTensors& state);

  enum class Set { forget, alternative, retain };
  /// Adds what is kept of these examples, of which the batch was packed in this order.
  void attach(Batch& batch, Set set, std::span<const int64_t> indices) const;

  /// Of the heads' products in attach().
  double flops() const { return flops_; }

 private:
  struct Kept {
    std::span<const Example> examples = {};
    std::string name = {};
    bool wants_logprob = false, wants_logits = false;
    int64_t block = -1, frozen_blocks = 0;
    at::Tensor logprob = {};                          // [examples]
    at::Tensor rows = {};                             // [scored tokens, d] after the last block
    at::Tensor hidden = {};                           // [scored tokens, d] after `block`
    at::Tensor frozen = {};                           // [tokens, d] before block `frozen_blocks`
    std::vector<int64_t> scored = {0}, tokens = {0};  // where each example's rows begin
    std::vector<std::pair<const char*, at::Tensor*>> tensors();
  };
  at::Tensor logits(const at::Tensor& rows) const;

  const Model& model_;
  std::array<Kept, 3> kept_;  // by Set
  Weights frozen_;            // final norm and head of the model before training
  mutable double flops_ = 0;
};

}  // namespace resurface
