// TAR, tamper attack resistance (Tamirisa et al. 2024, "Tamper-Resistant Safeguards for Open-Weight
// LLMs", algorithm 1). Before each outer step an attacker fine-tunes the weights on forget examples
// for K steps; after every fourth the tamper-resistance gradient at the attacked weights, of
// forget examples that it did not train on, is put by for the outer step:
//
//   theta'_0 = theta, theta'_k = AdamW step on the NLL of forget answers, rate drawn from `rates`
//   g = g_method(theta) + weight * sum over k of exp(schedule (k - K)) grad L_TR(theta'_k)
//       + representation * grad mean |h(theta) - h_ref|^2 / d on the retain answers
//
// L_TR is minus the entropy of the next token; first order: theta'_k counts as theta plus a
// constant. Held out are the outer step's own forget examples; the attacker has all others, and
// trains what the method trains.
// Differences to the published code: one kind of attack (its retain data and mixed attacks are not
// drawn); h is the residual stream after the last block, not after every block, and not taken where
// the method compares a block's itself (RMU); its distance is squared, as the length's gradient
// points anywhere while h is h_ref but for rounding; only answers' tokens count.
// Memory: another copy of the weights that train, the attacker's two moments and the gradient that
// is put by. Cost: K + K / every forward and backward passes a step.
#pragma once

#include "core/model/model.h"
#include "core/run/config.h"
#include "core/run/method_page.h"
#include "finetune/adamw.h"

namespace resurface {

struct TarSettings {
  int64_t steps = 64;
  int64_t every = 4;
  std::vector<double> rates = {2e-6, 2e-5, 4e-5};
  int64_t batch_size = 4;
  double weight = 4;
  double schedule = 0.0625;
  double representation = 1;
  template <class V>
  void visit(V& v) {
    v("steps", steps, "K, the attacker's steps before each outer step; 0: no tar",
      Range::at_least(0));
    v("every", every, "its steps from one tamper-resistance gradient to the next",
      Range::at_least(1));
    v("rates", rates, "learning rates of which the attacker draws one", Range::above(0));
    v("batch_size", batch_size, "forget examples in a step of the attacker", Range::at_least(1));
    v("weight", weight, "of the tamper-resistance gradients", Range::at_least(0));
    v("schedule", schedule, "they count exp(schedule (k - K)) in step k", Range::at_least(0));
    v("representation", representation,
      "weight of the retain answers' distance from what their residual stream was",
      Range::at_least(0));
  }
  static constexpr MethodPage page = {
      .file = "finetune/tar.cpp",
      .formula =
          R"(g = g_f(\theta) + g_r(\theta) + w \sum_{k \in E} e^{s (k - K)}\, \nabla L_{TR}(\theta'_k)
    + \rho\, \nabla \operatorname{mean}_{t \in R} \frac{\|h - h_{\mathrm{ref}}\|^2}{d}

\theta'_0 = \theta, \quad \theta'_k = \mathrm{AdamW}(\theta'_{k-1}, \nabla \mathrm{NLL}(F'), \eta)

L_{TR} = -\operatorname{mean}_{t \in F''} H(p))",
      .symbols = R"(K: `steps` of the attacker before each step; 0 is the method itself
E: every `every`-th of them
F': forget examples that are not in the step's batch; F'': those that are
\eta: drawn from `rates`
H: the entropy of the next token
w: `weight`
s: `schedule`
\rho: `representation`
h: the residual stream after the last block; d: its width)",
      .cost = "K + K / every forward and backward passes a step.",
      .needs = "More forget examples than a step takes: the attacker trains on the others.",
      .traps =
          "First order: the attacked weights count as the weights plus a constant. The published "
          "750 steps of 64 are 60000 passes; a short run shows little."};
  bool on() const { return steps > 0; }
};

/// The tamper-resistance gradients' weighted sum, one a weight; undefined where there is none. The
/// weights are then as they were, bit for bit, and without gradients. `held_out`: indices of the
/// outer step's forget examples, taken in `parts` micro-batches. Throws Error when these are all.
std::vector<at::Tensor> tamper_gradients(Model& model, const TarSettings& settings,
                                         const NamedTensors& weights,
                                         std::span<const Example> forget,
                                         std::span<const int64_t> held_out, int64_t parts,
                                         uint64_t seed);

/// Mean over retain answers' tokens of |h - h_ref|^2 / d after the block.
at::Tensor representation_gap(const Model& model, const Batch& retain, int64_t block);

}  // namespace resurface
