#include "eval/fit.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

// Largest block of logits held at once, in elements (64 MiB in fp32), for each model.
constexpr int64_t kLogitElements = int64_t{16} << 20;

at::Tensor wide_log_softmax(const at::Tensor& logits) {
  return at::log_softmax(logits, 1, logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

/// Each text as an answer to its first token.
std::vector<Example> whole_texts(std::span<const Example> texts) {
  std::vector<Example> whole;
  for (const Example& text : texts) {
    std::vector<int64_t> ids = text.prompt;
    ids.insert(ids.end(), text.answer.begin(), text.answer.end());
    if (ids.size() < 2) continue;
    whole.push_back({.prompt = {ids.front()}, .answer = {ids.begin() + 1, ids.end()}});
  }
  return whole;
}

/// Calls `use(batch, hidden)` for each batch, hidden [M, d] before each of its tokens but the
/// first.
template <class Use>
void each_batch(const Model& model, std::span<const Example> texts, int64_t batch_tokens,
                Use&& use) {
  const auto whole = whole_texts(texts);
  for (const auto& indices : batches_by_tokens(whole, batch_tokens)) {
    std::vector<const Example*> members;
    for (const auto i : indices) members.push_back(&whole[static_cast<size_t>(i)]);
    const auto batch = pack(std::span<const Example* const>(members), model.device());
    use(batch, model.hidden(batch, {.rows = batch.rows}));
  }
}

/// `head`: whose final norm and head turn `other(batch)`'s hidden states into the reference's
/// distributions; null: there is no reference.
template <class Other>
TextFit measure_fit(const Model& model, std::span<const Example> texts, int64_t batch_tokens,
                    const Model* head, Other&& other) {
  const at::NoGradGuard no_grad;
  TextFit fit;
  double nll = 0, kl = 0;
  each_batch(model, texts, batch_tokens, [&](const Batch& batch, const at::Tensor& hidden) {
    const at::Tensor wanted_hidden = head != nullptr ? other(batch) : at::Tensor();
    const auto chunk = std::max<int64_t>(1, kLogitElements / model.config().vocab_size);
    for (int64_t begin = 0; begin < hidden.size(0); begin += chunk) {
      const auto count = std::min(chunk, hidden.size(0) - begin);
      const auto logp = wide_log_softmax(model.logits(hidden.narrow(0, begin, count)));
      const auto targets = batch.targets.narrow(0, begin, count).unsqueeze(1);
      nll -= logp.gather(1, targets).sum().item<double>();
      if (head != nullptr) {
        const at::Tensor wanted =
            wide_log_softmax(head->logits(wanted_hidden.narrow(0, begin, count)));
        kl += (wanted.exp() * (wanted - logp)).sum().item<double>();
      }
    }
    fit.tokens += hidden.size(0);
  });
  const auto n = static_cast<double>(fit.tokens);
  fit.nll = nll / n;
  fit.kl = head != nullptr ? kl / n : std::nan("");
  return fit;
}

}  // namespace

double TextFit::perplexity() const { return std::exp(nll); }

TextFit text_fit(const Model& model, std::span<const Example> texts, const Model* reference,
                 int64_t batch_tokens) {
  return measure_fit(model, texts, batch_tokens, reference, [&](const Batch& batch) {
    return reference->hidden(batch, {.rows = batch.rows});
  });
}

FitReference fit_reference(const Model& model, std::span<const Example> texts,
                           int64_t batch_tokens) {
  const at::NoGradGuard no_grad;
  FitReference reference{.hidden = {}, .batch_tokens = batch_tokens};
  each_batch(model, texts, batch_tokens,
             [&](const Batch&, const at::Tensor& hidden) { reference.hidden.push_back(hidden); });
  return reference;
}

TextFit text_fit(const Model& model, std::span<const Example> texts,
                 const FitReference& reference) {
  size_t batches = 0;
  return measure_fit(model, texts, reference.batch_tokens, &model, [&](const Batch& batch) {
    if (batches >= reference.hidden.size() ||
        reference.hidden[batches].size(0) != batch.rows.size(0)) {
      fail("the reference of a fit was taken over other texts");
    }
    return reference.hidden[batches++];
  });
}

void to_json(nlohmann::json& json, const TextFit& fit) {
  json = {
      {"nll", fit.nll}, {"perplexity", fit.perplexity()}, {"kl", fit.kl}, {"tokens", fit.tokens}};
}

void from_json(const nlohmann::json& json, TextFit& fit) {
  const auto number = [&](const char* key) {
    return json.at(key).is_number() ? json.at(key).get<double>() : std::nan("");
  };
  fit = {.nll = number("nll"), .kl = number("kl"), .tokens = json.at("tokens").get<int64_t>()};
}

}  // namespace resurface
