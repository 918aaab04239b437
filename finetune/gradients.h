// The gradient of one step: micro-batches, the means that they share, and the wrappers that take
// the forget gradient elsewhere.
#pragma once

#include "finetune/reference.h"
#include "finetune/sampler.h"

namespace resurface {

struct Wrapped {
  Objective objective;
  Needs needs;
};
/// A method with what its wrappers add to its retain loss and its needs. Throws ConfigError where a
/// wrapper does not fit the method or the model.
Wrapped with_wrappers(const Objective& objective, const Needs& needs, const Wrap& wrap,
                      const ModelConfig& model);

class StepGradients {
 public:
  /// All by reference. `micro_batches`: how many a step is split into, at most.
  StepGradients(Model& model, const Objective& objective, const Needs& needs, const TrainData& data,
                const Reference& reference, const Optimizer& optimizer, const Wrap& wrap,
                int64_t micro_batches, uint64_t seed);

  /// Runs forward and backward of a step (1-based), which leaves the gradients with the parameters.
  /// The retain part counts `multiplier` times. Fills losses, norm and tokens.
  StepReport accumulate(const StepExamples& step, int64_t number, double multiplier);

 private:
  ForgetRetainBatch pack_part(std::span<const int64_t> forget,
                              std::span<const int64_t> retain) const;
  template <class Use>
  void each_part(const StepExamples& step, bool with_retain, Use&& use);
  void perturbed(const StepExamples& step, const std::vector<at::Tensor>& ascent, uint64_t seed);

  Model& model_;
  const Objective& objective_;
  const Needs& needs_;
  const TrainData& data_;
  const Reference& reference_;
  const Optimizer& optimizer_;
  const Wrap& wrap_;
  int64_t micro_batches_;
  uint64_t seed_;
};

}  // namespace resurface
