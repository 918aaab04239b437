#include "eval/field/probe.h"

#include <nlohmann/json.hpp>

#include "core/model/generate.h"
#include "core/run/error.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

// Largest block of logits held at once, in elements (32 MiB in doubles).
constexpr int64_t kLogitElements = int64_t{4} << 20;
// Of open-unlearning's Min-K%++: keeps a one-hot distribution from dividing by zero.
constexpr double kLeastVariance = 1e-6;

std::vector<double> doubles(const std::vector<at::Tensor>& parts) {
  const auto all = at::cat(parts).to(at::kCPU, at::kDouble).contiguous();
  const auto* data = all.const_data_ptr<double>();
  return {data, data + all.numel()};
}

/// Token scores of a whole batch, rows end to end.
TokenScores score_rows(const Model& model, const Batch& batch, bool distribution) {
  const auto hidden = model.hidden(batch, {.rows = batch.rows});
  const auto chunk = std::max<int64_t>(1, kLogitElements / model.config().vocab_size);
  std::vector<at::Tensor> logprob, argmax, mean, deviation;
  for (int64_t begin = 0; begin < hidden.size(0); begin += chunk) {
    const auto count = std::min(chunk, hidden.size(0) - begin);
    const auto logits = model.logits(hidden.narrow(0, begin, count)).to(at::kFloat);
    const auto targets = batch.targets.narrow(0, begin, count).unsqueeze(1);
    argmax.push_back(likeliest(logits));
    logprob.push_back(logits.gather(1, targets).squeeze(1) - logits.logsumexp(1));
    if (!distribution) continue;
    const auto log_p = logits.to(at::kDouble).log_softmax(1);
    const auto p = log_p.exp();
    mean.push_back((p * log_p).sum(1));
    const auto variance = (p * log_p.square()).sum(1) - mean.back().square();
    deviation.push_back(variance.clamp_min(kLeastVariance).sqrt());
  }
  TokenScores out;
  out.logprob = doubles(logprob);
  for (const double id : doubles(argmax)) out.argmax.push_back(static_cast<int64_t>(id));
  if (distribution) {
    out.mean = doubles(mean);
    out.deviation = doubles(deviation);
  }
  return out;
}

template <class T>
std::vector<T> part(const std::vector<T>& all, size_t begin, size_t count) {
  if (all.empty()) return {};
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin);
  return {first, first + static_cast<std::ptrdiff_t>(count)};
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

}  // namespace

double TokenScores::nll() const {
  return -std::accumulate(logprob.begin(), logprob.end(), 0.0) /
         static_cast<double>(logprob.size());
}

std::vector<TokenScores> token_scores(const Model& model, std::span<const Example> examples,
                                      int64_t batch_tokens, bool distribution) {
  at::NoGradGuard no_grad;
  std::vector<TokenScores> scores(examples.size());
  for (const auto& indices : batches_by_tokens(examples, batch_tokens)) {
    std::vector<const Example*> members;
    for (const auto i : indices) members.push_back(&examples[static_cast<size_t>(i)]);
    const auto rows = score_rows(
        model, pack(std::span<const Example* const>(members), model.device()), distribution);
    size_t begin = 0;
    for (const auto i : indices) {
      const size_t count = examples[static_cast<size_t>(i)].answer.size();
      scores[static_cast<size_t>(i)] = {
          part(rows.logprob, begin, count), part(rows.argmax, begin, count),
          part(rows.mean, begin, count), part(rows.deviation, begin, count)};
      begin += count;
    }
  }
  return scores;
}

Example text_example(const Model& model, const Tokenizer& tokenizer, const std::string& prompt,
                     const std::string& answer, const std::string& where) {
  Example example{.prompt = tokenizer.encode(prompt), .answer = tokenizer.encode(answer)};
  if (example.prompt.empty() || example.answer.empty()) {
    fail("{}: expected a prompt and an answer of at least one token each", where);
  }
  if (example.size() > model.config().context) {
    fail("{}: prompt and answer are {} tokens, the model's context is {}", where, example.size(),
         model.config().context);
  }
  return example;
}

std::vector<Continuation> continuations(const Model& model, const Tokenizer& tokenizer,
                                        const std::vector<std::vector<int64_t>>& prompts,
                                        const FieldRun& run, const ContinueOptions& options) {
  GenerateOptions generation;
  generation.max_tokens = options.new_tokens;
  generation.temperature = options.top_k > 1 ? 1 : 0;
  generation.top_k = options.top_k;
  if (const auto id = tokenizer.token_id(run.end_of_text); id >= 0) {
    generation.stop_ids.push_back(id);
  }
  if (!options.stop.empty()) {
    const auto end = tokenizer.encode(options.stop);
    if (end.size() == 1) generation.stop_ids.push_back(end[0]);
  }
  for (const auto& prompt : prompts) {
    if (prompt.empty()) fail("an empty prompt cannot be continued");
    const auto tokens = static_cast<int64_t>(prompt.size()) + options.new_tokens;
    if (tokens > model.config().context) {
      fail("a prompt of {} tokens and {} new ones exceed the model's context of {}", prompt.size(),
           options.new_tokens, model.config().context);
    }
  }
  // Alike lengths together: less of the cache is padding.
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prompts[a].size() < prompts[b].size(); });
  std::vector<Continuation> out(prompts.size());
  const auto batch = static_cast<size_t>(run.batch_prompts);
  for (size_t begin = 0; begin < order.size(); begin += batch) {
    const auto some = std::span(order).subspan(begin, std::min(batch, order.size() - begin));
    std::vector<std::vector<int64_t>> members;
    for (const size_t i : some) members.push_back(prompts[i]);
    generation.seed = options.seed + begin;  // no two prompts draw the same numbers
    auto ids = generate(model, members, generation);
    for (size_t i = 0; i < some.size(); ++i) {
      auto text = tokenizer.decode(ids[i]);
      if (!options.stop.empty()) text = text.substr(0, text.find(options.stop));
      out[some[i]] = {std::move(ids[i]), std::move(text)};
    }
  }
  return out;
}

double same_share(std::span<const int64_t> a, std::span<const int64_t> b, size_t count) {
  if (count == 0) fail("a share of no tokens is undefined");
  size_t same = 0;
  for (size_t i = 0; i < count; ++i) same += i < a.size() && i < b.size() && a[i] == b[i];
  return static_cast<double>(same) / static_cast<double>(count);
}

std::vector<TargetResult> probe_targets(const Model& model, const Tokenizer& tokenizer,
                                        std::span<const TargetProbe> probes, const FieldRun& run,
                                        int64_t new_tokens) {
  std::vector<TargetResult> results;
  std::vector<Example> targets, others;
  std::vector<std::vector<int64_t>> prompts;
  size_t longest = 0;
  for (const auto& probe : probes) {
    const auto example = [&](const std::string& text) {
      return text_example(model, tokenizer, run.prefix + probe.prompt, " " + text, probe.where);
    };
    targets.push_back(example(probe.target));
    if (!probe.other.empty()) others.push_back(example(probe.other));
    prompts.push_back(targets.back().prompt);
    results.push_back(
        {.prompt = probe.prompt, .target = probe.target, .ids = targets.back().answer});
    longest = std::max(longest, results.back().ids.size());
  }
  const auto scores = token_scores(model, targets, run.batch_tokens);
  const auto other_scores = token_scores(model, others, run.batch_tokens);
  std::vector<Continuation> said;
  if (new_tokens > 0) {
    said = continuations(model, tokenizer, prompts, run,
                         {.new_tokens = std::max(new_tokens, static_cast<int64_t>(longest))});
  }
  for (size_t i = 0, o = 0; i < results.size(); ++i) {
    TargetResult& result = results[i];
    result.argmax = scores[i].argmax;
    result.argmax_share = same_share(result.argmax, result.ids, result.ids.size());
    result.exact = result.argmax == result.ids;
    result.nll = scores[i].nll();
    if (!probes[i].other.empty()) {
      result.nll_other = other_scores[o++].nll();
      result.prefers = result.nll < *result.nll_other;
    }
    if (said.empty()) continue;
    result.generated_match = same_share(said[i].ids, result.ids, result.ids.size());
    result.contains = said[i].text.find(trimmed(result.target)) != std::string::npos;
    result.generated = std::move(said[i]);
  }
  return results;
}

void to_json(nlohmann::ordered_json& json, const TargetResult& result) {
  json = {{"prompt", result.prompt},
          {"target", result.target},
          {"argmax_share", result.argmax_share},
          {"exact", result.exact},
          {"nll", result.nll}};
  if (result.nll_other) {
    json["nll_other"] = *result.nll_other;
    json["prefers"] = *result.prefers;
  }
  if (result.generated) {
    json["generated"] = result.generated->text;
    json["generated_match"] = *result.generated_match;
    json["contains"] = *result.contains;
  }
}

}  // namespace resurface
