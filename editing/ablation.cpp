#include "editing/ablation.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

/// The direction of a block: its own, or the global one.
at::Tensor direction_of(const at::Tensor& directions, const Ablation& ablation, int64_t block) {
  if (!ablation.direction) return directions[block + 1];
  const double place = *ablation.direction + 1;  // row 0 is the embeddings'
  const int64_t below = std::min(static_cast<int64_t>(place), directions.size(0) - 2);
  const auto mixed =
      at::lerp(directions[below], directions[below + 1], place - static_cast<double>(below));
  return mixed / mixed.norm();
}

}  // namespace

at::Tensor mean_residuals(const Model& model, std::span<const std::vector<int64_t>> prompts,
                          int64_t batch_tokens) {
  if (prompts.empty()) {
    fail("ablation: a set of prompts is empty; it takes questions of talking points and others");
  }
  const at::NoGradGuard no_grad;
  std::vector<Example> examples;
  for (const auto& prompt : prompts) examples.push_back({.prompt = prompt, .answer = {}});
  const int64_t layers = model.layers();
  auto sum = at::zeros({layers + 1, model.config().hidden_size},
                       at::device(model.device()).dtype(at::kDouble));
  for (const auto& indices : batches_by_tokens(examples, batch_tokens)) {
    std::vector<std::vector<int64_t>> members;
    for (const auto i : indices) members.push_back(prompts[static_cast<size_t>(i)]);
    const Batch batch = pack_sequences(members, model.device());
    std::vector<int64_t> last;
    for (size_t b = 1; b < batch.starts.size(); ++b) last.push_back(batch.starts[b] - 1);
    const auto rows = at::tensor(at::ArrayRef<int64_t>(last)).to(model.device());
    const auto add = [&](int64_t row, const at::Tensor& states) {
      sum[row].add_(states.to(at::kDouble).sum(0));
    };
    HiddenOptions options{.rows = rows};
    options.start = model.embed(batch);
    options.on_block = [&](int64_t layer, const at::Tensor& hidden) {
      // The last block gives the rows alone.
      add(layer + 1, layer + 1 == layers ? hidden : hidden.index_select(0, rows));
    };
    add(0, options.start.index_select(0, rows));
    model.hidden(batch, options);
  }
  return (sum / static_cast<double>(prompts.size())).cpu();
}

at::Tensor ablation_directions(const at::Tensor& forget, const at::Tensor& retain) {
  const auto difference = forget - retain;
  const auto length = difference.norm(2, {1}, true);
  // Row 0 is not used by any block; both sets may well end in the same token.
  if (!(length.narrow(0, 1, length.size(0) - 1) > 0).all().item<bool>()) {
    fail("ablation: the two sets of prompts give the same mean residual; they must differ");
  }
  return difference / length.clamp_min(std::numeric_limits<double>::min());
}

double WeightKernel::at(int64_t block) const {
  const double away = std::abs(static_cast<double>(block) - position);
  if (away > distance) return 0;
  return away == 0 ? max_weight : max_weight + away / distance * (min_weight - max_weight);
}

std::vector<Delta> ablation_deltas(const Model& model, const at::Tensor& directions,
                                   const Ablation& ablation, int64_t first, int64_t last) {
  const at::NoGradGuard no_grad;
  std::vector<Delta> deltas;
  for (int64_t block = first; block <= last; ++block) {
    const auto d = direction_of(directions, ablation, block);
    const auto take_out = [&](const std::string& name, double weight) {
      if (weight == 0) return;
      const auto w = model.parameter(name).detach().to(at::kCPU, at::kDouble);
      deltas.push_back(
          {name, (-weight * d).unsqueeze(1).to(at::kFloat), d.unsqueeze(0).mm(w).to(at::kFloat)});
    };
    take_out(model.block(block).o.name + ".weight", ablation.attention.at(block));
    for (const auto& name : model.config().down_projections(block)) {
      take_out(name, ablation.mlp.at(block));
    }
  }
  return deltas;
}

const MethodPage ablation_page = {
    .file = "editing/ablation.cpp",
    .formula =
        R"(W' = W - w_l \, d_l \, d_l^\top W, \quad
    d_l = \frac{\bar h_F - \bar h_R}{\|\bar h_F - \bar h_R\|}

w_l = w + \frac{|l - c|}{r} \, (w_{\min} - w) \quad \text{for } |l - c| \le r, \text{ else } 0)",
    .symbols =
        R"(W: what attention (o_proj) and MLP (down_proj) of block $l$ write into the residual stream
\bar h_F: mean residual stream after block $l$ at the last token of the talking points' questions;
    $\bar h_R$ of the retain questions
d_l: of each block its own, or one for all
w, c, r, w_{\min}: the kernel's height, centre, reach and least weight, for attention and MLP
    apart)",
    .cost =
        "One forward pass over both sets of questions; then `trials` times the measurement of "
        "talking-point rate and KL. The search is a tree-structured Parzen estimator over both, "
        "its first `startup` trials at random; the trial kept has the lowest rate within "
        "`kl_bound`.",
    .needs = "Questions of talking points and of retain items; text to measure KL on.",
    .traps =
        "KL over one token hides what an ablation does to the rest of an answer; here it is over "
        "whole texts. A direction is taken of the residual stream itself, also after the last "
        "block, where some code has the final norm in it. A negative weight would add the "
        "direction; it counts as 0.",
};

}  // namespace resurface
