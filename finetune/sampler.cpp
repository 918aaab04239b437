#include "finetune/sampler.h"

#include "core/run/error.h"
#include "core/run/seeds.h"

namespace resurface {
int64_t ShuffledPasses::next() {
  if (position_ == 0) {
    // std::shuffle and the distributions differ between standard libraries; a run should not.
    std::iota(order_.begin(), order_.end(), int64_t{0});
    std::mt19937_64 generator(derive_seed(seed_, fmt::format("pass {}", pass_)));
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[generator() % i]);
  }
  const int64_t index = order_[position_];
  if (++position_ == order_.size()) {
    position_ = 0;
    ++pass_;
  }
  return index;
}

Sampler::Sampler(const TrainData& data, const TrainerSettings& settings, bool retain, uint64_t seed)
    : data_(data),
      batch_size_(settings.batch_size),
      batch_tokens_(settings.batch_tokens),
      steps_(settings.steps),
      epochs_(settings.epochs),
      with_retain_(retain),
      forget_(static_cast<int64_t>(data.forget.size()), derive_seed(seed, "forget")),
      retain_(static_cast<int64_t>(data.retain.size()), derive_seed(seed, "retain")) {
  if (data.forget.empty()) fail("training: there are no examples to train on");
  if (retain && data.retain.empty()) {
    fail("training: the method needs retain examples, and there are none");
  }
}

StepExamples Sampler::next() {
  StepExamples step;
  int64_t tokens = 0;
  do {
    if (held_forget_ < 0) {
      held_forget_ = forget_.next();
      if (with_retain_) held_retain_ = retain_.next();
    }
    tokens += data_.forget[static_cast<size_t>(held_forget_)].size();
    if (with_retain_) tokens += data_.retain[static_cast<size_t>(held_retain_)].size();
    if (!data_.alternative.empty()) {
      tokens += data_.alternative[static_cast<size_t>(held_forget_)].size();
    }
    if (batch_tokens_ > 0 && tokens > batch_tokens_ && !step.forget.empty()) return step;
    step.forget.push_back(std::exchange(held_forget_, -1));
    if (with_retain_) step.retain.push_back(held_retain_);
    if (batch_tokens_ == 0 && static_cast<int64_t>(step.forget.size()) == batch_size_) return step;
  } while (!forget_.at_start());
  return step;
}

int64_t Sampler::total_steps() const {
  if (steps_ > 0) return steps_;
  const auto examples = static_cast<int64_t>(data_.forget.size());
  if (batch_tokens_ == 0) return epochs_ * ((examples + batch_size_ - 1) / batch_size_);
  // How many steps a pass takes depends on its order: go through them once.
  Sampler rehearsal = *this;
  int64_t steps = 0;
  for (int64_t seen = 0; seen < epochs_ * examples; ++steps) {
    seen += static_cast<int64_t>(rehearsal.next().forget.size());
  }
  return steps;
}

}  // namespace resurface
