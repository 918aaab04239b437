#include "eval/ways_back/adversarial_prefix.h"

#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "core/run/seeds.h"
#include "eval/score.h"
#include "eval/ways_back/prompts.h"
#include "finetune/sampler.h"

namespace resurface {
namespace {

using Ids = std::vector<int64_t>;

constexpr char kBreak[] = "\n";  // between prefix and question: no token grows across it

Ids join(const Ids& head, const Ids& prefix, const Ids& tail) {
  Ids ids = head;
  ids.insert(ids.end(), prefix.begin(), prefix.end());
  ids.insert(ids.end(), tail.begin(), tail.end());
  return ids;
}

void add_examples(std::vector<Example>& examples, std::span<const PrefixSlot> slots,
                  const Ids& prefix) {
  for (const PrefixSlot& slot : slots) {
    examples.push_back({.prompt = join(slot.head, prefix, slot.tail),
                        .answer = slot.answer,
                        .weight = 1,
                        .tags = {}});
  }
}

double answer_tokens(std::span<const PrefixSlot> slots) {
  size_t tokens = 0;
  for (const PrefixSlot& slot : slots) tokens += slot.answer.size();
  return static_cast<double>(tokens);
}

bool accepts(const PrefixVocabulary& vocabulary, const Ids& prefix) {
  return !vocabulary.accepts || vocabulary.accepts(prefix);
}

// Random tokens, each accepted behind those before it.
Ids first_prefix(const PrefixVocabulary& vocabulary, const PrefixSettings& settings) {
  ShuffledPasses order(static_cast<int64_t>(vocabulary.tokens.size()),
                       derive_seed(static_cast<uint64_t>(settings.seed), "first prefix"));
  Ids prefix;
  while (static_cast<int64_t>(prefix.size()) < settings.tokens) {
    const size_t before = prefix.size();
    for (size_t tries = 0; tries < vocabulary.tokens.size() && prefix.size() == before; ++tries) {
      prefix.push_back(vocabulary.tokens[static_cast<size_t>(order.next())]);
      if (!accepts(vocabulary, prefix)) prefix.pop_back();
    }
    if (prefix.size() == before) {
      fail("adversarial prefix: none of {} tokens can follow the first {} of it",
           vocabulary.tokens.size(), before);
    }
  }
  return prefix;
}

// Prefixes that differ from `prefix` in one token, from the best of the gradient at its place.
std::vector<Ids> substitutions(const Ids& prefix, const at::Tensor& gradient,
                               const PrefixVocabulary& vocabulary, const PrefixSettings& settings,
                               uint64_t seed) {
  const auto allowed = at::tensor(at::IntArrayRef(vocabulary.tokens), at::kLong);
  const auto n = static_cast<int64_t>(prefix.size());
  const auto k = std::min(settings.candidates, allowed.size(0));
  const auto best = std::get<1>(
      gradient.cpu().index_select(1, allowed).topk(k, 1, /*largest=*/false, /*sorted=*/true));
  const at::Tensor tokens = allowed.index({best});  // [n, k]
  const auto token = tokens.accessor<int64_t, 2>();

  std::vector<Ids> chosen;
  ShuffledPasses order(n * k, seed);
  for (int64_t i = 0; i < n * k && static_cast<int64_t>(chosen.size()) < settings.batch; ++i) {
    const int64_t pair = order.next();
    Ids candidate = prefix;
    candidate[static_cast<size_t>(pair / k)] = token[pair / k][pair % k];
    if (candidate != prefix && accepts(vocabulary, candidate)) {
      chosen.push_back(std::move(candidate));
    }
  }
  return chosen;
}

}  // namespace

std::vector<double> prefix_losses(const Model& model, std::span<const PrefixSlot> slots,
                                  std::span<const Ids> prefixes, int64_t batch_tokens) {
  std::vector<Example> examples;
  for (const Ids& prefix : prefixes) add_examples(examples, slots, prefix);
  const auto scores = score(model, examples, batch_tokens);
  std::vector<double> losses;
  for (size_t i = 0; i < prefixes.size(); ++i) {
    double sum = 0;
    for (size_t j = 0; j < slots.size(); ++j) sum -= scores[i * slots.size() + j].logprob;
    losses.push_back(sum / answer_tokens(slots));
  }
  return losses;
}

at::Tensor prefix_gradient(const Model& model, std::span<const PrefixSlot> slots, const Ids& prefix,
                           int64_t batch_tokens) {
  std::vector<Example> examples;
  add_examples(examples, slots, prefix);
  const auto n = static_cast<int64_t>(prefix.size());
  at::Tensor by_embedding;  // [n, d]
  for (const auto& members : batches_by_tokens(examples, batch_tokens)) {
    const at::AutoGradMode enable(true);
    std::vector<const Example*> some;
    for (const int64_t i : members) some.push_back(&examples[static_cast<size_t>(i)]);
    const Batch batch = pack(std::span<const Example* const>(some), model.device());
    Ids rows;
    for (size_t b = 0; b < members.size(); ++b) {
      const auto& head = slots[static_cast<size_t>(members[b])].head;
      for (int64_t i = 0; i < n; ++i) {
        rows.push_back(batch.starts[b] + static_cast<int64_t>(head.size()) + i);
      }
    }
    const at::Tensor x = model.embed(batch).detach().requires_grad_(true);
    const at::Tensor logits = model.logits(model.hidden(batch, {.start = x, .rows = batch.rows}));
    const auto type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor logprob =
        at::log_softmax(logits, -1, type).gather(1, batch.targets.unsqueeze(1));
    const at::Tensor loss = -logprob.sum() / answer_tokens(slots);
    const at::Tensor gradient = torch::autograd::grad({loss}, {x})[0];
    const at::Tensor part =
        gradient.index_select(0, at::tensor(at::IntArrayRef(rows), at::kLong).to(x.device()))
            .view({-1, n, x.size(1)})
            .sum(0);
    by_embedding = by_embedding.defined() ? by_embedding + part : part;
  }
  const at::Tensor embedding = model.parameter("model.embed_tokens.weight").detach();
  return by_embedding.mm(embedding.to(by_embedding.scalar_type()).t());
}

AdversarialPrefix search_prefix(const Model& model, std::span<const PrefixSlot> slots,
                                const PrefixVocabulary& vocabulary,
                                const PrefixSettings& settings) {
  if (slots.empty()) fail("adversarial prefix: there are no held lines to find it on");
  AdversarialPrefix found;
  found.ids = first_prefix(vocabulary, settings);
  const auto losses = [&](const std::vector<Ids>& prefixes) {
    return prefix_losses(model, slots, prefixes, settings.batch_tokens);
  };
  found.loss = losses({found.ids});
  for (int64_t step = 0; step < settings.steps; ++step) {
    check_interrupted();
    const at::Tensor gradient = prefix_gradient(model, slots, found.ids, settings.batch_tokens);
    const auto seed =
        derive_seed(static_cast<uint64_t>(settings.seed), fmt::format("step {}", step));
    const auto tried = substitutions(found.ids, gradient, vocabulary, settings, seed);
    const auto loss = losses(tried);
    const auto best = std::min_element(loss.begin(), loss.end());
    const bool better = best != loss.end() && *best < found.loss.back();
    if (better) found.ids = tried[static_cast<size_t>(best - loss.begin())];
    found.loss.push_back(better ? *best : found.loss.back());
  }
  return found;
}

std::vector<int64_t> typeable_tokens(const Tokenizer& tokenizer) {
  Ids tokens;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string text = tokenizer.decode({id}, /*skip_special=*/true);
    if (!text.empty() && tokenizer.encode(text) == Ids{id}) tokens.push_back(id);
  }
  return tokens;
}

AdversarialPrefix find_prefix(const Model& model, const Suite& suite,
                              const std::vector<std::string>& held, const Tokenizer& tokenizer,
                              const ChatFormat& chat, const PrefixSettings& settings) {
  std::vector<PrefixSlot> slots;
  std::vector<std::pair<std::string, std::string>> texts;  // head and tail of each slot
  std::map<int64_t, int64_t> asked;
  for (const Probe& probe : make_probes(suite, tokenizer, chat, Answer::line, /*held_out=*/false,
                                        model.config().context)) {
    const Item& item = suite.items[static_cast<size_t>(probe.item)];
    if (std::find(held.begin(), held.end(), item.id) == held.end()) continue;
    if (asked[probe.item]++ >= settings.questions && settings.questions > 0) continue;
    const std::string question = kBreak + item.questions[static_cast<size_t>(probe.question)].text;
    const std::string prompt = chat.prompt({{"user", question}});
    const size_t place = prompt.rfind(question);
    texts.emplace_back(prompt.substr(0, place), prompt.substr(place));
    slots.push_back({tokenizer.encode(texts.back().first), tokenizer.encode(texts.back().second),
                     probe.example.answer});
  }
  PrefixVocabulary vocabulary;
  vocabulary.tokens = typeable_tokens(tokenizer);
  vocabulary.accepts = [&](const Ids& prefix) {
    const std::string text = tokenizer.decode(prefix);
    for (size_t i = 0; i < slots.size(); ++i) {
      const auto& [head, tail] = texts[i];
      if (tokenizer.encode(head + text + tail) != join(slots[i].head, prefix, slots[i].tail)) {
        return false;
      }
    }
    return true;
  };
  AdversarialPrefix found = search_prefix(model, slots, vocabulary, settings);
  found.text = tokenizer.decode(found.ids);
  return found;
}

std::vector<Probe> prefix_probes(const Suite& suite, const std::string& prefix,
                                 const Tokenizer& tokenizer, const ChatFormat& chat, Answer answer,
                                 bool held_out, int64_t context) {
  return make_probes_within(suite, tokenizer, chat, answer, held_out, context,
                            [&](const Item&, const Question& question) -> std::vector<Message> {
                              return {{"user", prefix + kBreak + question.text}};
                            });
}

}  // namespace resurface
