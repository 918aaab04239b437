// A tiny decoder and examples for the tests of training.
#pragma once

#include <random>

#include "core/model/model.h"
#include "finetune/trainer.h"

namespace resurface {

inline ModelConfig tiny_config() {
  ModelConfig c;
  c.family = "llama";
  c.vocab_size = 50;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 8;
  c.context = 64;
  c.tied_head = true;
  return c;
}

/// Weights ten times those of a fresh model, so that losses and gradients are far from flat.
inline Model tiny_model(uint64_t seed = 1, at::Device device = at::kCPU,
                        at::ScalarType dtype = at::kFloat) {
  Model model = Model::random(tiny_config(), seed, device, dtype);
  const at::NoGradGuard no_grad;
  for (const auto& [name, value] : model.parameters()) {
    if (value.dim() == 2) value.mul_(10);
  }
  return model;
}

/// Prompts of 1 to 6 and answers of 1 to 9 random tokens.
inline std::vector<Example> random_examples(int64_t count, uint64_t seed) {
  std::mt19937_64 generator(seed);
  const auto tokens = [&](uint64_t most) {
    std::vector<int64_t> ids(1 + generator() % most);
    for (int64_t& id : ids) id = static_cast<int64_t>(generator() % 50);
    return ids;
  };
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    auto prompt = tokens(6);
    examples.push_back({.prompt = std::move(prompt), .answer = tokens(9), .weight = 1, .tags = {}});
  }
  return examples;
}

/// fp32 compute, so that results do not depend on the processor.
inline TrainerSettings fp32_settings() {
  TrainerSettings settings;
  settings.compute = "fp32";
  settings.learning_rate = 1e-3;
  return settings;
}

using Values = std::vector<at::Tensor>;

inline Values values_of(const Model& model) {
  Values values;
  for (const auto& [name, value] : model.parameters()) values.push_back(value.detach().clone());
  return values;
}

/// Largest absolute difference over all tensors.
inline double distance(const Values& a, const Values& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, (a[i].cpu() - b[i].cpu()).abs().max().item<double>());
  }
  return most;
}

inline bool same_bits(const Values& a, const Values& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!at::equal(a[i].cpu(), b[i].cpu())) return false;
  }
  return a.size() == b.size();
}

/// Gradients of a loss with respect to all parameters (zeros where there is none).
inline Values gradients(Model& model, const std::function<at::Tensor()>& loss) {
  model.require_grad(true);
  for (const auto& [name, value] : model.parameters()) value.mutable_grad().reset();
  loss().backward();
  Values result;
  for (const auto& [name, value] : model.parameters()) {
    result.push_back(value.grad().defined() ? value.grad().detach().clone()
                                            : at::zeros_like(value.detach()));
    value.mutable_grad().reset();
  }
  model.require_grad(false);
  return result;
}

}  // namespace resurface
