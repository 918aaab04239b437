// RMU (Li et al. 2024, "The WMDP Benchmark", section 4): steer the residual stream h after block l
// towards a random direction on the forget answers, hold it on the retain answers.
//   L = gamma * mean over tokens of |h_F - c u|^2 / d + alpha * mean over tokens of |h_R -
//   h_R^ref|^2 / d
// u is uniform on [0, 1)^d scaled to length 1, drawn once. Only the MLPs' down projections of
// blocks l-2 .. l train. So the forward pass ends after block l; what the blocks before l-2 give is
// kept, and so is h_R^ref. Defaults as published for Zephyr-7B (layer 7 of 32, c 6.5, alpha 1200).
// Tokens are those that predict the answer's; the paper's texts have no prompts. Reference code
// that divides sums [B] by counts [B, 1] averages each sequence by every other's length.
#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "core/run/error.h"
#include "unlearning/terms.h"

namespace resurface {

struct RmuSettings {
  int64_t layer = -1;
  double steering_coeff = 6.5;
  int64_t seed = 0;
  double forget_weight = 1;
  double retain_weight = 1200;
  template <class V>
  void visit(V& v) {
    v("layer", layer, "block l whose output is steered; -1: 7/32 of the depth",
      Range::at_least(-1));
    v("steering_coeff", steering_coeff, "c, the length of the target; published: 6.5 to 300",
      Range::above(0));
    v("seed", seed, "of the direction u");
    v("forget_weight", forget_weight, "gamma, multiplies the forget loss", Range::at_least(0));
    v("retain_weight", retain_weight, "alpha, multiplies the retain loss; published: 100 to 1200",
      Range::above(0));
  }

  int64_t block(const ModelConfig& model) const {
    if (layer >= model.layers) {
      throw ConfigError(fmt::format("rmu: layer {} of a model whose layers are 0 .. {}", layer,
                                    model.layers - 1));
    }
    return layer >= 0 ? layer : std::llround(7.0 / 32.0 * static_cast<double>(model.layers));
  }
  int64_t first(const ModelConfig& model) const { return std::max<int64_t>(0, block(model) - 2); }
  Needs needs(const ModelConfig& model) const {
    Needs all{
        .retain = true, .retain_block = block(model), .frozen_blocks = first(model), .trains = {}};
    for (int64_t l = first(model); l <= block(model); ++l) {
      const auto names = model.down_projections(l);
      all.trains.insert(all.trains.end(), names.begin(), names.end());
    }
    return all;
  }
  static constexpr MethodPage page = {
      .file = "unlearning/rmu.h",
      .formula =
          R"(L = \gamma \, \operatorname{mean}_{t \in F} \, \frac{\|h_t - c \, u\|^2}{d}
    + \alpha \, \operatorname{mean}_{t \in R} \, \frac{\|h_t - h_t^{\mathrm{ref}}\|^2}{d})",
      .symbols =
          R"(h_t: the residual stream after block `layer`, where token $t$ is predicted; $d$ its width
u: a direction drawn once from `seed`, uniform on [0, 1) in each coordinate and scaled to length 1
c: `steering_coeff`)",
      .cost =
          "The forward pass ends after block l, only the down projections of blocks l-2 to l "
          "train, and what blocks before them give is kept, as is the reference of R: a small part "
          "of the 7 forward passes a step that two full models take.",
      .traps =
          "The best c and alpha change with the model's depth and width; the defaults are those "
          "published for a 7B model. Reference code that divides sums [B] by counts [B, 1] "
          "averages each sequence by every other's length.",
  };
};

inline Loss rmu(const RmuSettings& s, Model& model, const ForgetRetainBatch& batch) {
  const auto state = [&](const Batch& b) {  // [M, d]
    return model.hidden(b, {.first = b.frozen.defined() ? s.first(model.config()) : 0,
                            .last = s.block(model.config()) + 1,
                            .start = b.frozen,
                            .rows = b.rows});
  };
  const auto squared = [](const at::Tensor& gap, const Batch& b) {
    return token_mean(gap.square().mean(-1), b);
  };
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(s.seed));
  const at::Tensor u = at::rand({model.config().hidden_size}, generator);
  const at::Tensor target = (s.steering_coeff * u / u.norm()).to(model.device());
  Loss loss{.forget = s.forget_weight * squared(state(batch.forget) - target, batch.forget)};
  if (batch.retain.size() > 0) {
    loss.retain = s.retain_weight *
                  squared(state(batch.retain) - batch.retain.reference_hidden, batch.retain);
  }
  return loss;
}

}  // namespace resurface
