// A model of a few thousand parameters and made-up lines for it.
#pragma once

#include <random>

#include "core/data/batch.h"
#include "core/model/model.h"

namespace resurface::test {

inline constexpr int64_t kVocab = 64;

inline ModelConfig tiny_config() {
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = kVocab;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 16;
  config.context = 64;
  config.tied_head = true;
  return config;
}

inline std::vector<int64_t> random_ids(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int64_t>(random() % kVocab));
  return ids;
}

inline Example random_example(int64_t seed, int64_t prompt, int64_t answer) {
  const auto s = static_cast<uint64_t>(seed);
  return {.prompt = random_ids(2 * s, prompt),
          .answer = random_ids(2 * s + 1, answer),
          .weight = 1,
          .tags = {}};
}

}  // namespace resurface::test
