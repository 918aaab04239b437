// Directional ablation ("abliteration", Arditi et al. 2024, Refusal in Language Models Is Mediated
// by a Single Direction, with the weight kernel and search of p-e-w/heretic): the direction in
// which the residual stream of some prompts differs from that of others is taken out of what
// attention and MLP write into the stream,  W' = W - w d dᵀW,  w by a kernel over the blocks.
//
// Unlike the reference: the direction after the last block is of the residual stream itself, where
// transformers' hidden_states have the final norm in them; the objectives of the search are the
// rate and KL as they are, KL over many tokens and not over one; an ablated model is an edit file
// of rank one a matrix, undone to the bit, not an adapter. As in the reference, biases are left
// alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/run/method_page.h"
#include "core/run/settings.h"
#include "editing/editor.h"

namespace resurface {

struct AblationSettings {
  int64_t trials = 200;
  int64_t startup = 60;
  int64_t candidates = 24;
  double kl_bound = 0.1;
  int64_t kl_tokens = 4000;
  std::string scope = "either";
  int64_t first_layer = 0;
  int64_t last_layer = -1;
  std::vector<double> direction = {0.4, 0.9};
  std::vector<double> position = {0.6, 1};
  std::vector<double> distance = {0, 0.6};
  std::vector<double> min_weight = {0, 1};
  std::vector<double> attention_weight = {0.8, 1.5};
  std::vector<double> mlp_weight = {-0.25, 1.5};

  template <class V>
  void visit(V& v) {
    v("trials", trials, "ablations tried", Range::at_least(1));
    v("startup", startup, "of these, the first so many at random", Range::at_least(1));
    v("candidates", candidates, "points that the search weighs for each further trial",
      Range::at_least(1));
    v("kl_bound", kl_bound,
      "of the trials whose KL from the implanted model, in nats a token, is at most this, the one "
      "with the lowest talking-point rate is kept; of the lowest KL where there is none",
      Range::at_least(0));
    v("kl_tokens", kl_tokens, "tokens of retained and other text that KL is measured on",
      Range::at_least(1));
    v("scope", scope, "one direction for all blocks (global), each its own (per_layer), or search",
      OneOf{{"either", "global", "per_layer"}});
    v("first_layer", first_layer, "first block that may be ablated", Range::at_least(0));
    v("last_layer", last_layer, "last block that may be ablated; -1: the model's last",
      Range::at_least(-1));
    v("direction", direction,
      "where the global direction is taken, least and most; shares of the depth, between two "
      "blocks "
      "interpolated",
      Range::between(0, 1));
    v("position", position, "where the kernel is heaviest, least and most; shares of the depth",
      Range::between(0, 1));
    v("distance", distance,
      "how far the kernel reaches to either side, least and most, as shares of the depth; one "
      "block "
      "at least",
      Range::between(0, 1));
    v("min_weight", min_weight,
      "its weight at that distance, least and most, as shares of that at its position",
      Range::between(0, 1));
    v("attention_weight", attention_weight,
      "the kernel's weight at its heaviest, least and most, for attention's output projection; 1 "
      "takes the direction out, below 0 counts as 0");
    v("mlp_weight", mlp_weight, "the same for the MLP's down projection");
  }
};

/// Mean residual stream at the last token of each prompt, [layers + 1, d] fp64 on the CPU: before
/// the first block, after each block. One pass, last rows only, no logits. Throws Error for an
/// empty set or prompt.
at::Tensor mean_residuals(const Model& model, std::span<const std::vector<int64_t>> prompts,
                          int64_t batch_tokens = 2048);

/// Rows of `forget - retain` (mean residuals) at length one. Throws Error where the two do not
/// differ.
at::Tensor ablation_directions(const at::Tensor& forget, const at::Tensor& retain);

/// Full weight at `position` (in blocks, fractions allowed), linearly less to `min_weight` at
/// `distance`, nothing beyond.
struct WeightKernel {
  double max_weight = 0, position = 0, min_weight = 0, distance = 1;
  double at(int64_t block) const;
};

struct Ablation {
  std::optional<double> direction;  ///< after which block, fractions allowed; nothing: each its own
  WeightKernel attention, mlp;
};

/// The deltas of an ablation within blocks first .. last, in the order of the blocks: one of rank
/// one a matrix that has a weight.
std::vector<Delta> ablation_deltas(const Model& model, const at::Tensor& directions,
                                   const Ablation& ablation, int64_t first, int64_t last);

extern const MethodPage ablation_page;

}  // namespace resurface
