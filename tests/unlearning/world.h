// A tiny model, a reference that differs from it, and examples, for the tests of objectives.
#pragma once

#include "finetune/reference.h"
#include "tests/finetune/tiny.h"
#include "unlearning/methods.h"

namespace resurface {

/// The prompts of `examples` with the answers of others.
inline std::vector<Example> other_answers(const std::vector<Example>& examples, uint64_t seed) {
  auto others = random_examples(static_cast<int64_t>(examples.size()), seed);
  for (size_t i = 0; i < examples.size(); ++i) others[i].prompt = examples[i].prompt;
  return others;
}

/// All examples as one batch, with what `needs` asks of the reference.
inline ForgetRetainBatch whole_batch(const TrainData& data, const Needs& needs,
                                     const Model& reference, at::Device device = at::kCPU) {
  Reference kept(reference, needs, data);
  kept.compute();
  const auto packed = [&](std::span<const Example> examples, Reference::Set set) {
    Batch batch = pack(examples, device);
    std::vector<int64_t> all(examples.size());
    std::iota(all.begin(), all.end(), int64_t{0});
    kept.attach(batch, set, all);
    return batch;
  };
  ForgetRetainBatch batch{.forget = packed(data.forget, Reference::Set::forget)};
  if (needs.retain) batch.retain = packed(data.retain, Reference::Set::retain);
  if (needs.alternative) {
    batch.alternative = packed(data.alternative, Reference::Set::alternative);
  }
  return batch;
}

struct World {
  std::vector<Example> forget = random_examples(5, 3), retain = random_examples(5, 4);
  std::vector<Example> alternative = other_answers(forget, 6);
  Model model, reference;

  explicit World(at::Device device = at::kCPU)
      : model(tiny_model(1, device)), reference(tiny_model(2, device)) {
    for (size_t i = 0; i < 5; ++i) {
      forget[i].weight = alternative[i].weight = 0.5 + 0.3 * static_cast<double>(i);
    }
  }
  TrainData data() const {
    return {.forget = forget, .retain = retain, .alternative = alternative};
  }
  ForgetRetainBatch batch(const Needs& needs) const {
    return whole_batch(data(), needs, reference, model.device());
  }
  template <class Settings>
  ForgetRetainBatch batch_for(const Settings& settings) const {
    return batch(settings.needs(model.config()));
  }
};

inline double relative_distance(const Values& a, const Values& b) {
  double most = 0;
  for (const at::Tensor& value : b) most = std::max(most, value.abs().max().item<double>());
  return distance(a, b) / most;
}

inline double largest(const Values& values) {
  double most = 0;
  for (const at::Tensor& value : values) most = std::max(most, value.abs().max().item<double>());
  return most;
}

}  // namespace resurface
