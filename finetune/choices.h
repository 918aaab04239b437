// The optimisers and kinds of adapters that training chooses among, for the pages of
// `resurface methods`.
#pragma once

#include <array>

#include "core/run/method_page.h"
#include "finetune/trainer.h"

namespace resurface {

struct TrainingChoice {
  const char* name;
  const char* family;  ///< optimizer | adapter
  const char* summary;
  const char* paper;
  MethodPage page;
  std::vector<FieldInfo> (*describe)() = nullptr;  ///< its own settings, of which some have none
};

inline constexpr auto any_training = "A method that trains, or the planting.";

inline constexpr std::array<TrainingChoice, 8> kTrainingChoices = {{
    {"adamw",
     "optimizer",
     "steps scaled by each gradient's running mean and square; decay apart from them",
     "Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization",
     {.file = "finetune/adamw.cpp",
      .formula =
          R"(\theta \leftarrow (1 - \eta \lambda)\,\theta - \eta \frac{\bar m}{\sqrt{\bar v} + \epsilon}

m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \quad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2)",
      .symbols = R"(g: the gradient, clipped to `clip`
\bar m: m over 1 minus `beta1` to the power of the step
\bar v: v likewise, by `beta2`
\eta: the learning rate
\lambda: `weight_decay`, on matrices alone
\beta_1: `beta1`
\beta_2: `beta2`
\epsilon: `epsilon`)",
      .cost = "Two floats a weight that trains.",
      .needs = any_training,
      .usage = "```yaml\nremove:\n  - {method: sft, train: {optimizer: adamw, beta2: 0.95}}\n```"}},
    {"muon",
     "optimizer",
     "steps of orthogonal matrices for the blocks' matrices, AdamW for all else",
     "Jordan et al. 2024, Muon; Liu et al. 2025, Muon is Scalable for LLM Training",
     {.file = "finetune/muon.cpp",
      .formula =
          R"(W \leftarrow (1 - \eta \lambda)\,W - 0.2\,\eta \sqrt{\max(r, c)}\; O(\mu M + (1 - \mu)\,G)

M \leftarrow \mu M + (1 - \mu)\,G

O(U) = X_n, \quad X_0 = \frac{U}{\|U\|}, \quad X_{i+1} = (a + b A + c A^2)\,X_i, \quad A = X_i X_i^\top)",
      .symbols = R"(G: a block's matrix' gradient, r rows and c columns
\mu: `muon.momentum`
n: `muon.ns_steps`
A: the product that a Newton-Schulz step is made of
(a, b, c): (3.4445, -4.7750, 2.0315), which bring all singular values near 1)",
      .cost =
          "One float a weight of the blocks' matrices; Newton-Schulz steps are counted in FLOPs.",
      .needs = any_training,
      .traps =
          "Without the scale by the matrix' size the learning rate of AdamW does not carry over.",
      .usage = "```yaml\nremove:\n  - {method: sft, train: {optimizer: muon}}\n```"},
     [] { return describe<MuonSettings>(); }},
    {"muonclip",
     "optimizer",
     "Muon, and heads whose attention logits grow too large are scaled down",
     "Kimi Team 2025, Kimi K2: Open Agentic Intelligence",
     {.file = "finetune/qk_clip.cpp",
      .formula =
          R"(W_q \leftarrow \sqrt{\min(1, \tau / S)}\; W_q, \quad W_k \leftarrow \sqrt{\min(1, \tau / S)}\; W_k

S = \max_{i, j} \frac{q_i^\top k_j}{\sqrt{d}})",
      .symbols =
          R"(S: a head's largest attention logit over the step's batch, of the updated weights
\tau: `muon.qk_clip`
d: the head's width)",
      .cost = "Muon's, and a forward pass over the batch.",
      .needs = "All parameters (`reach: full`): adapters have no W_q of their own.",
      .traps = "Where several heads share a key, W_q alone takes the whole factor: scaling the key "
               "would "
               "touch the others.",
      .usage = "```yaml\nremove:\n  - {method: sft, train: {optimizer: muonclip}}\n```"},
     [] { return describe<MuonSettings>(); }},
    {"sgd",
     "optimizer",
     "gradient descent with momentum",
     "Robbins and Monro 1951; momentum: Polyak 1964, Nesterov 1983",
     {.file = "finetune/sgd.cpp",
      .formula =
          R"(\theta \leftarrow (1 - \eta \lambda)\,\theta - \eta M, \quad M \leftarrow \mu M + g)",
      .symbols = R"(\mu: `sgd.momentum`; with `sgd.nesterov` the step is along $g + \mu M$)",
      .cost = "One float a weight that trains.",
      .needs = any_training,
      .traps = "Its learning rates are some hundred times AdamW's, and go with the loss' scale.",
      .usage = "```yaml\nremove:\n  - {method: sft, train: {optimizer: sgd, learning_rate: "
               "1.0e-2}}\n```"},
     [] { return describe<SgdSettings>(); }},
    {"lion",
     "optimizer",
     "steps of one length along the signs of a running mean",
     "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms",
     {.file = "finetune/lion.cpp",
      .formula =
          R"(\theta \leftarrow (1 - \eta \lambda)\,\theta - \eta\, \operatorname{sign}(\beta_1 M + (1 - \beta_1)\,g)

M \leftarrow \beta_2 M + (1 - \beta_2)\,g)",
      .symbols = R"(\beta_1: `lion.beta1`
\beta_2: `lion.beta2`)",
      .cost = "One float a weight that trains.",
      .needs = any_training,
      .traps = "Its authors take rates 3 to 10 times lower than AdamW's.",
      .usage = "```yaml\nremove:\n  - {method: sft, train: {optimizer: lion}}\n```"},
     [] { return describe<LionSettings>(); }},
    {"lora",
     "adapter",
     "a low-rank change beside each linear layer",
     "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models",
     {.file = "finetune/lora.cpp",
      .formula = R"(W' = W + \frac{\alpha}{r}\, B A)",
      .symbols = R"(r: `lora.rank`
\alpha: `lora.alpha`
A: Kaiming-uniform; B: zero at first)",
      .cost = "The weights themselves do not train: moments and gradients of the adapters alone.",
      .needs = any_training,
      .traps =
          "Full and LoRA runs want different learning rates: compare each at its own best, not at "
          "one.",
      .usage = "```yaml\nremove:\n  - {method: sft, train: {reach: lora, lora: {rank: 16}}}\n```"},
     [] { return describe<LoraSettings>(); }},
    {"rslora",
     "adapter",
     "LoRA whose scale holds for large ranks",
     "Kalajdzievski 2023, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
     {.file = "finetune/lora.cpp",
      .formula = R"(W' = W + \frac{\alpha}{\sqrt{r}}\, B A)",
      .symbols = R"(r: `lora.rank`
\alpha: `lora.alpha`
A: Kaiming-uniform; B: zero at first)",
      .cost = "LoRA's.",
      .needs = any_training,
      .usage = "```yaml\nremove:\n  - {method: sft, train: {reach: lora, lora: {variant: "
               "rslora}}}\n```"},
     [] { return describe<LoraSettings>(); }},
    {"dora",
     "adapter",
     "LoRA for the rows' directions, and their lengths apart",
     "Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation",
     {.file = "finetune/lora.cpp",
      .formula =
          R"(W' = m \odot \frac{V}{\mathrm{sg}(\|V\|)}, \quad V = W + \frac{\alpha}{r}\, B A)",
      .symbols = R"(m: the rows' lengths, at first those of W
\|V\|: each row's length
r: `lora.rank`
\alpha: `lora.alpha`
A: Kaiming-uniform; B: zero at first)",
      .cost = "LoRA's, and V's rows' lengths in each forward pass.",
      .needs = any_training,
      .traps = "The length counts as a number, as published: no gradient flows through it.",
      .usage =
          "```yaml\nremove:\n  - {method: sft, train: {reach: lora, lora: {variant: dora}}}\n```"},
     [] { return describe<LoraSettings>(); }},
}};

}  // namespace resurface
