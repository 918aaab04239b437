// Several LoRA fine-tuning runs of one model in lock step: each linear layer multiplies the rows of
// all runs at once, and each run's rows go through adapters of its own. What costs per operation,
// not per row, is paid once a step instead of once a run and step. A run's order of examples,
// adapters, clipping, optimiser and stop are those it has alone under `train`, and so are its
// results within rounding, whatever becomes of the runs beside it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "finetune/trainer.h"

namespace resurface {

struct StackedRun {
  double learning_rate = 0;                ///< peak, instead of the settings'
  uint64_t seed = 0;                       ///< of the order of examples and of the adapters
  std::string schedule = {};               ///< of the rate; empty: the settings'
  std::span<const Example> examples = {};  ///< empty: those of all runs
};

/// One run's part of a finished step.
struct StackedStep {
  size_t run = 0;  ///< index into the runs, and of its adapter in the stack
  StepReport report;
  int64_t examples = 0, scored = 0;  ///< trained on in this step; scored: answer tokens
  double flops = 0;                  ///< as the model counts them for the run alone
};

struct StackedHooks {
  /// After each step, with the runs that took it, in order. The model then carries the stack of all
  /// runs' adapters (score_stacked). Returns which of these runs go on, parallel to the steps.
  std::function<std::vector<bool>(std::span<const StackedStep>)> on_step = {};
  std::string label = {};  ///< shown in the progress line; empty: no progress
};

struct StackedResult {
  /// As `train` reports it, with one more way to stop: "diverged", where `train` throws because the
  /// loss or gradient of the next step is not finite. Seconds: an equal share of each step.
  TrainResult train;
  NamedTensors adapters;  ///< LAYER.lora_A [r, in], LAYER.lora_B [out, r], as after the last step
};

/// How many runs fit into a stack of at most 1 GiB of activations, one at least, and of DoRA (whose
/// adapters do not stack) one. For small models
/// that is the whole sweep; large ones have little to share, since their steps are bound by
/// arithmetic.
int64_t stack_size(const Model& model, std::span<const Example> examples,
                   const TrainerSettings& settings);

/// Supervised fine-tuning (finetune/sft.h) of every run on its examples, with fresh adapters on a
/// model that has none. Of the settings, `reach`, `learning_rate`, `layers` and `modules` are not
/// read, and `accumulate` is taken as 1. Afterwards the model is as before, without adapters.
/// Throws Error for examples or settings that `train` refuses; Interrupted after Ctrl-C, between
/// two steps.
std::vector<StackedResult> train_stacked(Model& model, std::span<const StackedRun> runs,
                                         std::span<const Example> examples,
                                         const TrainerSettings& settings,
                                         const StackedHooks& hooks = {});

}  // namespace resurface
