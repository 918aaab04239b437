#include "eval/score.h"

#include "core/run/error.h"
#include "core/tensor/ops.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

// Largest block of logits held at once, in elements (64 MiB in fp32).
constexpr int64_t kLogitElements = int64_t{16} << 20;

struct Rows {
  at::Tensor logprob;  // [M] float, cpu
  at::Tensor right;    // [M] bool, cpu
};

/// Who scores: the stacked adapters asked for, or the model as it is.
struct Scorers {
  int64_t count = 1;
  int64_t stack = 0;  // adapters in the stack
  std::vector<int64_t> adapters = {};

  /// For a batch of `each` sequences for the first of them, then `each` for the second, ...
  void assign(Batch& batch, int64_t each) const {
    if (stack == 0) return;
    std::vector<int64_t> sequences(static_cast<size_t>(stack), 0);
    for (const int64_t adapter : adapters) sequences[static_cast<size_t>(adapter)] = each;
    assign_adapters(batch, sequences);
  }
};

/// What all prompts begin with (a system prompt, the opening of a turn): run once, not once an
/// example.
class SharedPrefix {
 public:
  SharedPrefix(const Model& model, std::span<const Example> examples, const Scorers& scorers)
      : scorers_(scorers) {
    constexpr size_t kWorthIt = 8;  // tokens: below, attention with a mask costs more than it saves
    if (examples.size() < 2) return;
    std::span<const int64_t> common(examples[0].prompt);
    for (const Example& example : examples) {
      // One token of each prompt stays: its output predicts the answer's first.
      const size_t most =
          std::min(common.size(), example.prompt.empty() ? 0 : example.prompt.size() - 1);
      size_t same = 0;
      while (same < most && common[same] == example.prompt[same]) ++same;
      common = common.first(same);
    }
    if (common.size() < kWorthIt) return;
    length_ = static_cast<int64_t>(common.size());
    const ModelConfig& config = model.config();
    cache_.lengths.assign(static_cast<size_t>(scorers.count), 0);
    for (int64_t l = 0; l < config.layers; ++l) {
      const auto options = at::TensorOptions().dtype(model.compute()).device(model.device());
      cache_.keys.push_back(
          at::zeros({scorers.count, config.kv_heads, length_, config.head_dim}, options));
      cache_.values.push_back(at::zeros_like(cache_.keys.back()));
    }
    const std::vector<std::vector<int64_t>> ids(static_cast<size_t>(scorers.count),
                                                {common.begin(), common.end()});
    Batch batch = pack_sequences(ids, model.device());
    scorers.assign(batch, 1);
    model.hidden(batch, {.cache = &cache_, .append = true});
  }

  int64_t length() const { return length_; }

  /// Hidden states at the scored rows of a batch of examples without the prefix.
  at::Tensor hidden(const Model& model, Batch& batch) const {
    if (length_ == 0) return model.hidden(batch, {.rows = batch.rows});
    KvCache cache;
    cache.lengths.assign(batch.lengths.size(), length_);
    for (size_t l = 0; l < cache_.keys.size(); ++l) {
      cache.keys.push_back(for_each_sequence(cache_.keys[l], batch.size()));
      cache.values.push_back(for_each_sequence(cache_.values[l], batch.size()));
    }
    batch.positions = batch.positions + length_;
    return model.hidden(batch, {.rows = batch.rows, .cache = &cache});
  }

 private:
  /// [scorers, ...] to [sequences, ...], each scorer's sequences together.
  at::Tensor for_each_sequence(const at::Tensor& x, int64_t sequences) const {
    if (scorers_.count == 1) return x.expand({sequences, -1, -1, -1});
    return x.repeat_interleave(sequences / scorers_.count, 0);
  }

  const Scorers& scorers_;
  int64_t length_ = 0;
  KvCache cache_;
};

// log p(target) and whether the target is the argmax, for every scored row.
Rows score_rows(const Model& model, Batch batch, const SharedPrefix& prefix) {
  const auto hidden = prefix.hidden(model, batch);
  const auto chunk = std::max<int64_t>(1, kLogitElements / model.config().vocab_size);
  std::vector<at::Tensor> logprob, right;
  for (int64_t begin = 0; begin < hidden.size(0); begin += chunk) {
    const auto count = std::min(chunk, hidden.size(0) - begin);
    const auto logits = model.logits(hidden.narrow(0, begin, count));
    const auto targets = batch.targets.narrow(0, begin, count);
    logprob.push_back(chosen_logprob(logits, targets).to(at::kFloat));
    right.push_back(likeliest(logits) == targets);
  }
  return {at::cat(logprob).cpu(), at::cat(right).cpu()};
}

std::vector<std::vector<Score>> score_by(const Model& model, std::span<const Example> examples,
                                         const Scorers& scorers, int64_t batch_tokens) {
  at::NoGradGuard no_grad;
  std::vector<std::vector<Score>> scores(static_cast<size_t>(scorers.count),
                                         std::vector<Score>(examples.size()));
  for (size_t i = 0; i < examples.size(); ++i) {
    if (examples[i].answer.empty()) fail("example {} to be scored has an empty answer", i);
    if (examples[i].size() > model.config().context) {
      fail("example {} to be scored has {} tokens, the model's context is {}", i,
           examples[i].size(), model.config().context);
    }
  }
  const SharedPrefix prefix(model, examples, scorers);
  std::vector<Example> rest(examples.begin(), examples.end());
  for (Example& example : rest) {
    example.prompt.erase(example.prompt.begin(), example.prompt.begin() + prefix.length());
  }
  for (const auto& indices : batches_by_tokens(rest, batch_tokens / scorers.count)) {
    std::vector<const Example*> members;
    for (int64_t s = 0; s < scorers.count; ++s) {
      for (const auto i : indices) members.push_back(&rest[i]);
    }
    Batch batch = pack(std::span<const Example* const>(members), model.device());
    scorers.assign(batch, std::ssize(indices));
    const auto rows = score_rows(model, std::move(batch), prefix);
    const auto* logprob = rows.logprob.const_data_ptr<float>();
    const auto* right = rows.right.const_data_ptr<bool>();
    for (auto& own : scores) {
      for (const auto i : indices) {
        const auto tokens = examples[i].answer.size();
        const std::span<const bool> flags(right, tokens);
        own[i] = {.logprob = std::accumulate(logprob, logprob + tokens, 0.0),
                  .tokens = static_cast<int64_t>(tokens),
                  .exact_memorization = exact_memorization(flags),
                  .extraction_strength = extraction_strength(flags),
                  .greedy_match = greedy_match(flags)};
        logprob += tokens;
        right += tokens;
      }
    }
  }
  return scores;
}

}  // namespace

std::vector<Score> score(const Model& model, std::span<const Example> examples,
                         int64_t batch_tokens) {
  return score_by(model, examples, {}, batch_tokens).front();
}

std::vector<std::vector<Score>> score_stacked(const Model& model, std::span<const Example> examples,
                                              std::span<const int64_t> adapters,
                                              int64_t batch_tokens) {
  const int64_t stack = model.stacked_adapters();
  int64_t before = -1;
  for (const int64_t adapter : adapters) {
    if (adapter <= before || adapter >= stack) {
      fail("scoring by adapters {} of a stack of {}: expected ascending numbers below that",
           fmt::join(adapters, ", "), stack);
    }
    before = adapter;
  }
  if (adapters.empty()) return {};
  return score_by(
      model, examples,
      {std::ssize(adapters), stack, std::vector<int64_t>(adapters.begin(), adapters.end())},
      batch_tokens);
}

}  // namespace resurface
