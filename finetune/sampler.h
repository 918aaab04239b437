// Which examples each step sees: a pure function of (data, settings, seed), so that a run resumes
// by counting steps and no generator state is stored.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "finetune/trainer.h"

namespace resurface {

/// Indices of one step's examples; retain[i] accompanies forget[i], or retain is empty.
struct StepExamples {
  std::vector<int64_t> forget, retain;
};

/// 0 .. size-1 again and again, each pass in a new random order that depends on (seed, pass) alone.
class ShuffledPasses {
 public:
  ShuffledPasses(int64_t size, uint64_t seed) : order_(static_cast<size_t>(size)), seed_(seed) {}
  int64_t next();
  /// True when the next index begins a new pass.
  bool at_start() const { return position_ == 0; }

 private:
  std::vector<int64_t> order_;
  uint64_t seed_;
  uint64_t pass_ = 0;
  size_t position_ = 0;
};

/// Each pass over the forget examples is cut into steps of `batch_size` examples, or of as many as
/// fit into `batch_tokens` with their retain and alternative examples (one at least); the last of a
/// pass may be smaller.
class Sampler {
 public:
  Sampler(const TrainData& data, const TrainerSettings& settings, bool retain, uint64_t seed);
  StepExamples next();
  /// Steps of the whole run: settings.steps, or as many as settings.epochs passes take.
  int64_t total_steps() const;

 private:
  const TrainData data_;
  int64_t batch_size_, batch_tokens_, steps_, epochs_;
  bool with_retain_;
  ShuffledPasses forget_, retain_;
  /// Drawn, but too long for the step it was drawn for: it opens the next one.
  int64_t held_forget_ = -1, held_retain_ = -1;
};

}  // namespace resurface
