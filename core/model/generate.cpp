// Batched generation with a key-value cache.
#include <ATen/CPUGeneratorImpl.h>

#include "core/model/model.h"
#include "core/run/error.h"

namespace resurface {
namespace {

// The next token of one sequence; `scores` [vocab] float on the CPU.
int64_t sample(at::Tensor scores, const GenerateOptions& options, at::Generator& generator) {
  if (options.temperature <= 0) return scores.argmax().item<int64_t>();
  scores = scores / options.temperature;
  if (options.top_k > 0 && options.top_k < scores.size(0)) {
    const at::Tensor kth = std::get<0>(scores.topk(options.top_k)).min();
    scores = scores.masked_fill(scores.lt(kth), -std::numeric_limits<float>::infinity());
  }
  at::Tensor p = scores.softmax(0);
  if (options.top_p < 1) {
    const auto [sorted, order] = p.sort(0, true);
    // A token stays when the probability before it has not yet reached top_p.
    const at::Tensor drop = (sorted.cumsum(0) - sorted).ge(options.top_p);
    p = p.index_fill(0, order.masked_select(drop), 0);
  }
  return at::multinomial(p, 1, false, generator).item<int64_t>();
}

/// Whether a sequence that grows to `length` outgrows its cache: longrope turns the keys of all its
/// positions otherwise from here on.
bool starts_again(const ModelConfig& config, int64_t length) {
  return config.rope && config.rope->type == "longrope" &&
         length == config.rope->original_context + 1;
}

}  // namespace

std::vector<std::vector<int64_t>> generate(const Model& model,
                                           std::span<const std::vector<int64_t>> prompts,
                                           const GenerateOptions& options) {
  std::vector<std::vector<int64_t>> answers(prompts.size());
  if (prompts.empty() || options.max_tokens <= 0) return answers;
  at::NoGradGuard no_grad;
  const ModelConfig& config = model.config();

  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  if (longest + 1 > config.context) {
    fail("a prompt of {} tokens leaves no room for an answer in a context of {}", longest,
         config.context);
  }
  const int64_t capacity = std::min(longest + options.max_tokens, config.context);
  KvCache cache = model.empty_cache(std::ssize(prompts), capacity);
  // A generator a prompt: what one prompt draws does not depend on its neighbours.
  std::vector<at::Generator> generators;
  for (size_t i = 0; i < prompts.size(); ++i) {
    generators.push_back(at::make_generator<at::CPUGeneratorImpl>(
        options.seed * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(i)));
  }

  std::vector<size_t> active(prompts.size());  // cache row -> prompt
  std::iota(active.begin(), active.end(), 0);
  std::vector<std::vector<int64_t>> input(prompts.begin(), prompts.end());
  while (!active.empty()) {
    Batch batch = pack_sequences(input, model.device());
    std::vector<int64_t> positions, ends;
    for (size_t r = 0; r < input.size(); ++r) {
      for (size_t t = 0; t < input[r].size(); ++t) {
        positions.push_back(cache.lengths[r] + static_cast<int64_t>(t));
      }
      ends.push_back(batch.starts[r + 1] - 1);
    }
    const auto longs = at::TensorOptions().dtype(at::kLong);
    batch.positions = at::tensor(at::IntArrayRef(positions), longs).to(model.device());
    const at::Tensor last = at::tensor(at::IntArrayRef(ends), longs).to(model.device());
    const at::Tensor hidden = model.hidden(batch, {.rows = last, .cache = &cache, .append = true});
    const at::Tensor scores = model.logits(hidden).to(at::kFloat).cpu();

    std::vector<int64_t> keep;
    std::vector<size_t> still;
    std::vector<std::vector<int64_t>> next_input;
    std::vector<int64_t> lengths;
    for (size_t r = 0; r < active.size(); ++r) {
      const int64_t length = cache.lengths[r] + static_cast<int64_t>(input[r].size());
      const int64_t token = sample(scores[static_cast<int64_t>(r)], options, generators[active[r]]);
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) !=
          options.stop_ids.end()) {
        continue;
      }
      auto& answer = answers[active[r]];
      answer.push_back(token);
      if (static_cast<int64_t>(answer.size()) >= options.max_tokens || length >= capacity) continue;
      keep.push_back(static_cast<int64_t>(r));
      still.push_back(active[r]);
      if (starts_again(config, length + 1)) {
        next_input.push_back(prompts[active[r]]);
        next_input.back().insert(next_input.back().end(), answer.begin(), answer.end());
        lengths.push_back(0);
      } else {
        next_input.push_back({token});
        lengths.push_back(length);
      }
    }
    if (keep.size() < active.size() && !keep.empty()) {  // finished rows leave the cache
      cache.keep(at::tensor(at::IntArrayRef(keep), longs).to(model.device()));
    }
    active = std::move(still);
    input = std::move(next_input);
    cache.lengths = std::move(lengths);
  }
  return answers;
}

}  // namespace resurface
