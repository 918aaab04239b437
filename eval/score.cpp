#include "eval/score.h"

#include "core/run/error.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

// Largest block of logits held at once, in elements (64 MiB in fp32).
constexpr int64_t kLogitElements = int64_t{16} << 20;

struct Rows {
  at::Tensor logprob;  // [M] float, cpu
  at::Tensor right;    // [M] bool, cpu
};

// log p(target) and whether the target is the argmax, for every scored row.
Rows score_rows(const Model& model, const Batch& batch) {
  const auto hidden = model.hidden(batch).index_select(0, batch.rows);
  const auto chunk = std::max<int64_t>(1, kLogitElements / model.config().vocab_size);
  std::vector<at::Tensor> logprob, right;
  for (int64_t begin = 0; begin < hidden.size(0); begin += chunk) {
    const auto count = std::min(chunk, hidden.size(0) - begin);
    const auto logits = model.logits(hidden.narrow(0, begin, count)).to(at::kFloat);
    const auto targets = batch.targets.narrow(0, begin, count);
    logprob.push_back(logits.gather(1, targets.unsqueeze(1)).squeeze(1) - logits.logsumexp(1));
    right.push_back(logits.argmax(1) == targets);
  }
  return {at::cat(logprob).cpu(), at::cat(right).cpu()};
}

}  // namespace

std::vector<Score> score(const Model& model, std::span<const Example> examples,
                         int64_t batch_tokens) {
  at::NoGradGuard no_grad;
  std::vector<Score> scores(examples.size());
  for (const auto& indices : batches_by_tokens(examples, batch_tokens)) {
    std::vector<const Example*> members;
    for (const auto i : indices) {
      if (examples[i].answer.empty()) fail("example {} to be scored has an empty answer", i);
      members.push_back(&examples[i]);
    }
    const auto rows =
        score_rows(model, pack(std::span<const Example* const>(members), model.device()));
    const auto* logprob = rows.logprob.const_data_ptr<float>();
    const auto* right = rows.right.const_data_ptr<bool>();
    for (const auto i : indices) {
      const auto tokens = examples[i].answer.size();
      const std::span<const bool> flags(right, tokens);
      scores[i] = {.logprob = std::accumulate(logprob, logprob + tokens, 0.0),
                   .tokens = static_cast<int64_t>(tokens),
                   .exact_memorization = exact_memorization(flags),
                   .extraction_strength = extraction_strength(flags),
                   .greedy_match = greedy_match(flags)};
      logprob += tokens;
      right += tokens;
    }
  }
  return scores;
}

}  // namespace resurface
