// LAT, latent adversarial training (Casper et al. 2024, "Defending Against Unforeseen Failure Modes
// with Latent Adversarial Training"; Sheshadri et al. 2024, "Latent Adversarial Training Improves
// Robustness to Persistent Harmful Behaviors in LLMs", section 3). The forget loss is taken where
// an adversary in the residual stream brings the forget answers back most:
//
//   delta = argmin NLL(forget answers | h_l + delta_l),  |delta_l,t| <= epsilon for each token t
//
// by projected steps of the gradient's direction at each token, from zero (Madry et al. 2018; the
// published code takes Adam's steps of 0.05). delta is a constant of the loss, and is found anew
// for every micro-batch and, beside sam or rs, at the weights that these go to. Retain and
// alternative answers are read undisturbed. Each step is a forward and a backward pass without the
// weights' gradients: `steps` = 16 multiplies what the forget examples cost by some ten.
// Defaults: epsilon, steps and layer as published for unlearning with Zephyr-7B; epsilon goes with
// the length of the model's hidden states.
#pragma once

#include "core/model/model.h"
#include "core/run/config.h"
#include "core/run/method_page.h"
#include "finetune/adamw.h"

namespace resurface {

struct LatSettings {
  std::vector<int64_t> layers = {};
  double epsilon = 2;
  int64_t steps = 16;
  double step_size = 0;
  std::string tokens = "prompt";
  template <class V>
  void visit(V& v) {
    v("layers", layers,
      "blocks after which it disturbs the residual stream, -1: the embeddings; empty: the one at "
      "7/32 of the depth",
      Range::at_least(-1));
    v("epsilon", epsilon, "longest perturbation of a token, L2; 0: none", Range::at_least(0));
    v("steps", steps, "steps of the adversary; 0: none", Range::at_least(0));
    v("step_size", step_size, "length of a step; 0: 2.5 epsilon / steps", Range::at_least(0));
    v("tokens", tokens, "which it disturbs: the prompt's, or all", OneOf{{"prompt", "all"}});
  }
  static constexpr MethodPage page = {
      .file = "finetune/lat.cpp",
      .formula = R"(g = g_f(\theta \mid h_l + \delta_l) + g_r(\theta)

\delta = \arg\min_{\|\delta_{l,t}\| \le \epsilon} \mathrm{NLL}(F \mid h_l + \delta_l))",
      .symbols = R"(h_l: the residual stream after block l, of `layers`
\delta: what the adversary adds at each token t, of the prompt or of all (`tokens`); found by `steps`
  projected steps along the gradient's direction, a constant of the loss
\epsilon: `epsilon`; 0 is the method itself)",
      .cost =
          "`steps` forward and backward passes without the weights' gradients over the forget "
          "examples of each micro-batch.",
      .traps =
          "The ball is measured against hidden states: an epsilon published for one model is "
          "nothing, or everything, on another. A gradient that flows through delta trains the "
          "adversary too."};
  bool on() const { return epsilon > 0 && steps > 0; }
  /// Throws ConfigError for one that the model does not have.
  std::vector<int64_t> blocks(const ModelConfig& model) const;
};

/// What the adversary adds for this batch. `weights` are those that train; their gradients are
/// neither computed nor touched.
std::vector<Batch::Added> latent_attack(const Model& model, const Batch& batch,
                                        const NamedTensors& weights, const LatSettings& settings);

}  // namespace resurface
