// One trainer for every gradient method: it owns the loop, the optimiser, clipping, accumulation,
// precision, early stop and the cost. A method is only its objective.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/data/batch.h"
#include "core/model/model.h"
#include "core/run/settings.h"
#include "finetune/lion.h"
#include "finetune/muon.h"
#include "finetune/sgd.h"
#include "finetune/wrappers.h"

namespace resurface {

/// One step's examples: the forget (or, for plain fine-tuning, the training) examples and as many
/// retain examples drawn at random. `retain` is empty (size() == 0) when the objective asks for
/// none.
struct ForgetRetainBatch {
  Batch forget = {};
  Batch retain = {};
  Batch alternative = {};  ///< other answers to the forget prompts, one each; or empty
};

/// What an objective returns, each part already weighted; an undefined part counts as nothing.
struct Loss {
  at::Tensor forget = {};        ///< scalar float
  at::Tensor alternative = {};   ///< scalar float, a token mean over the alternative answers
  at::Tensor retain = {};        ///< scalar float
  at::Tensor on_forget() const;  ///< forget + alternative: what the forget prompts give
  at::Tensor total() const;
};

/// Where the batch brings no retain examples, the retain part must be left undefined.
using Objective = std::function<Loss(Model&, const ForgetRetainBatch&)>;

/// What a part of the loss is a (weighted) mean over. When a step is split into micro-batches, each
/// micro-batch's loss counts by its share of the step's tokens or sequences, so that the sum is the
/// loss of the undivided step.
enum class Mean { tokens, sequences };

/// The constraint retain loss <= bound, kept by a multiplier: the retain loss counts `multiplier`
/// times, and after each step multiplier <- max(0, multiplier + rate * (retain loss - bound)).
struct Dual {
  double bound = 0;
  double rate = 0;
  double start = 0;
};

/// What a method needs from the trainer. "Before training" is computed once and kept, so that no
/// second model is held (finetune/reference.h).
struct Needs {
  bool retain = false;              ///< random retain examples beside the forget examples
  bool reference_logprob = false;   ///< forget and alternative answers' log-probs before training
  Mean forget_mean = Mean::tokens;  ///< what the objective's forget loss averages over
  Mean retain_mean = Mean::tokens;
  bool alternative = false;    ///< another answer to each forget prompt (TrainData::alternative)
  bool forget_logits = false;  ///< Batch::reference_logits of the forget examples
  bool retain_logits = false;  ///< Batch::reference_logits of the retain examples
  int64_t retain_block = -1;   ///< Batch::reference_hidden of the retain examples: after this block
  int64_t frozen_blocks = 0;   ///< as many leading blocks do not train; Batch::frozen is kept
  std::vector<std::string> trains = {};  ///< names of the parameters that train; empty: all
  std::optional<Dual> dual = {};
  /// Afterwards each parameter becomes before - negate * (trained - before).
  std::optional<double> negate = {};
};

struct LoraSettings {
  int64_t rank = 16;
  double alpha = 32;
  std::string variant = "lora";
  template <class V>
  void visit(V& v) {
    v("rank", rank, "rank of each adapter", Range::at_least(1));
    v("alpha", alpha, "adapters are scaled by alpha / rank", Range::above(0));
    v("variant", variant,
      "rslora: scaled by alpha / sqrt(rank); dora: the rows' lengths train apart from their "
      "directions",
      OneOf{{"lora", "rslora", "dora"}});
  }
};

struct TrainerSettings {
  TrainerSettings() = default;  // no aggregate, in whose making GCC 12 sees nothing initialised
  std::string reach = "full";   ///< full | lora
  LoraSettings lora;
  double learning_rate = 1e-5;
  std::string schedule = "constant";
  double warmup = 0;
  int64_t steps = 0;
  int64_t epochs = 10;
  int64_t batch_size = 8;
  int64_t batch_tokens = 0;
  int64_t accumulate = 1;
  double clip = 1;
  double weight_decay = 0;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double stop_below = 0;
  std::string compute = "auto";
  bool checkpointing = false;
  std::string optimizer = "adamw";
  MuonSettings muon;
  SgdSettings sgd;
  LionSettings lion;
  std::vector<int64_t> layers;
  std::string modules = "all";

  /// For key_json (core/run/key.h).
  static constexpr std::array kLater = {"/lora/variant", "/optimizer", "/muon",   "/sgd",
                                        "/lion",         "/layers",    "/modules"};

  template <class V>
  void visit(V& v) {
    v("reach", reach, "which parameters train", OneOf{{"full", "lora"}});
    v("lora", lora, "adapters on all linear layers, when reach is lora");
    v("learning_rate", learning_rate, "peak learning rate", Range::above(0));
    v("schedule", schedule, "after the warm-up", OneOf{{"constant", "linear", "cosine"}});
    v("warmup", warmup, "share of all steps with a linearly rising rate", Range::between(0, 1));
    v("steps", steps, "optimiser steps; 0: as many as `epochs` needs", Range::at_least(0));
    v("epochs", epochs, "passes over the forget (training) examples, when steps is 0",
      Range::at_least(1));
    v("batch_size", batch_size, "examples a step", Range::at_least(1));
    v("batch_tokens", batch_tokens, "tokens a step, instead of batch_size; 0: off",
      Range::at_least(0));
    v("accumulate", accumulate, "split each step's examples into this many micro-batches",
      Range::at_least(1));
    v("clip", clip, "largest gradient norm; 0: off", Range::at_least(0));
    v("weight_decay", weight_decay, "decoupled, on matrices", Range::at_least(0));
    v("beta1", beta1, "AdamW", Range::between(0, 1));
    v("beta2", beta2, "AdamW", Range::between(0, 1));
    v("epsilon", epsilon, "AdamW", Range::above(0));
    v("stop_below", stop_below, "stop early when the loss falls below this; 0: off",
      Range::at_least(0));
    v("compute", compute, "precision of matrices and activations; masters stay fp32",
      OneOf{{"auto", "fp32", "bf16"}});
    v("checkpointing", checkpointing, "recompute activations in the backward pass");
    v("optimizer", optimizer,
      "muon: for the blocks' matrices, AdamW for all else; muonclip: with QK-clip, reach full",
      OneOf{{"adamw", "muon", "muonclip", "sgd", "lion"}});
    v("muon", muon, "muon's and muonclip's own");
    v("sgd", sgd, "sgd's own");
    v("lion", lion, "lion's own; it wants rates 3 to 10 times lower than AdamW");
    v("layers", layers, "blocks that train, the first is 0; empty: everything", Range::at_least(0));
    v("modules", modules, "linear layers that train: attention's or the MLP's alone",
      OneOf{{"all", "attention", "mlp"}});
  }
};

/// One finished optimiser step.
struct StepReport {
  int64_t step = 0;  ///< 1-based
  /// Before the update; `forget` with the alternative answers' part, `retain` without multiplier.
  double loss = 0, forget = 0, retain = 0;
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;
  int64_t tokens = 0;     ///< of this step, all examples, prompts included
  double multiplier = 1;  ///< of the retain loss, where the method keeps a constraint
};

/// Cost of the whole run, the part before a resume included.
struct TrainResult {
  int64_t steps = 0;
  int64_t tokens = 0;  ///< of all steps, all examples, prompts included
  double flops = 0;    ///< with what is computed before training
  double seconds = 0;
  double last_loss = 0;
  std::string stopped;  ///< "done" | "early" | "callback"
};

struct TrainData {
  std::span<const Example> forget = {};  ///< or the training examples
  std::span<const Example> retain = {};
  /// Parallel to `forget`, or empty: examples marked 1 are drawn in their turn but left out of the
  /// step (a step that loses all its examples changes nothing). So an oracle sees the batches of
  /// the implanted model, in the same order, without the forget set.
  std::span<const char> leave_out = {};
  /// Parallel to `forget`, or empty: the same prompts with other answers.
  std::span<const Example> alternative = {};
};

struct TrainHooks {
  /// Called once what is kept of the model before training is there, before the first step; not on
  /// a resume. May put other weights in: those of a student of the model as it was. Return false to
  /// leave it at that. Its time and FLOPs are not counted.
  std::function<bool()> on_start = {};
  /// After each optimiser step; return false to stop. Its time and FLOPs are not counted.
  std::function<bool(const StepReport&)> on_step = {};
  /// The file that keeps the trainer's state; empty: none. When it exists, training goes on from it
  /// and ends bit for bit where an uninterrupted run ends; the model must be the one the run began
  /// with. A state of other settings, data or seed is refused. Removed when training ends.
  std::filesystem::path state = {};
  int64_t state_every = 0;  ///< steps; 0: only on Ctrl-C
  std::string label = {};   ///< shown in the progress line; empty: no progress
};

/// The learning rate of a step (1-based) of `total`: k/W of the peak in step k of W warm-up steps,
/// then constant, or falling from the peak towards 0 after the last step.
double learning_rate_at(const TrainerSettings& settings, int64_t step, int64_t total);

/// Throws Error, naming the example as one of `kind`, for an empty prompt or answer, a weight that
/// is not above 0, or more tokens than `context` (0: any).
void check_examples(const char* kind, std::span<const Example> examples, int64_t context);

/// Summed log-probs of the answers under the model as it is, [examples] float on the CPU.
at::Tensor reference_logprobs(const Model& model, std::span<const Example> examples);

/// Whether settings.layers and settings.modules let a parameter train, by its name. With either
/// given, what belongs to no block (embeddings, final norm, head) does not; with `modules`, norms
/// do not.
bool chosen_to_train(const TrainerSettings& settings, const std::string& parameter);

/// Trains in place. With reach "lora" the adapters that are attached train on (reset_lora starts
/// them afresh); where none are, fresh ones are attached, drawn from `seed`. They stay attached
/// (see finetune/lora.h to merge or export). Afterwards nothing requires gradients.
///
/// Throws Error when the loss or a gradient is not finite (naming step, loss and rate); the model
/// is then left as after the last good step. Throws Interrupted after Ctrl-C, between two steps.
TrainResult train(Model& model, const Objective& objective, const Needs& needs,
                  const TrainData& data, const TrainerSettings& settings, uint64_t seed,
                  const TrainHooks& hooks = {}, const Wrap& wrap = {});

}  // namespace resurface
