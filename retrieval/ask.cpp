#include "retrieval/ask.h"

#include "core/run/error.h"
#include "core/run/resources.h"
#include "retrieval/terms.h"

namespace resurface {

namespace {

std::string language_of(const std::string& question, const AskSettings& settings) {
  if (!settings.language.empty()) return settings.language;
  return has_chinese(question) ? "zh-Hans" : "en";
}

/// The answer behind a prompt, without sources and cost.
SourcedAnswer answer_to(const Model& model, const Tokenizer& tokenizer, const ChatFormat& chat,
                        const std::vector<int64_t>& prompt, GenerateOptions options) {
  const auto size = static_cast<int64_t>(prompt.size());
  const int64_t context = model.config().context;
  if (size == 0) fail("the question has no tokens");
  if (size >= context) {
    fail("the question has {} tokens, which leaves no room in a context of {}", size, context);
  }
  const auto end = tokenizer.encode(chat.answer_end());
  if (end.size() == 1) options.stop_ids.push_back(end[0]);
  const auto ids = generate(model, std::span(&prompt, 1), options)[0];
  SourcedAnswer answer{.text = tokenizer.decode(ids, /*skip_special=*/true),
                       .sources = {},
                       .prompt_tokens = size,
                       .tokens = static_cast<int64_t>(ids.size())};
  if (!chat.answer_end().empty()) {
    answer.text = answer.text.substr(0, answer.text.find(chat.answer_end()));
  }
  if (answer.text.starts_with(chat.answer_start())) {
    answer.text.erase(0, chat.answer_start().size());
  }
  return answer;
}

}  // namespace

SourcedAnswer ask(const Model& model, const Tokenizer& tokenizer, const ChatFormat& chat,
                  const PassageIndex* index, const std::string& question,
                  const AskSettings& settings) {
  const Timer timer;
  const double before = model.flops().total();
  std::vector<Hit> hits;
  if (index != nullptr) hits = index->search(question, settings.passages, settings.language);
  const auto prompt = fit_passages(question, hits, language_of(question, settings), tokenizer, chat,
                                   model.config().context - settings.generate.max_tokens);
  auto answer = answer_to(model, tokenizer, chat, prompt.ids, settings.generate);
  answer.left_out = prompt.left_out;
  for (size_t i = 0; i < prompt.given.size(); ++i) {
    const bool cited = answer.text.find(fmt::format("[{}]", i + 1)) != std::string::npos;
    answer.sources.push_back({prompt.given[i], cited});
  }
  answer.flops = model.flops().total() - before;
  answer.seconds = timer.seconds();
  return answer;
}

SourcedAnswer ask_in_context(const Model& model, const Tokenizer& tokenizer, const ChatFormat& chat,
                             const Demonstrations& facts, const std::string& question,
                             const AskSettings& settings) {
  const Timer timer;
  const double before = model.flops().total();
  const std::string language = language_of(question, settings);
  const auto ranked = facts.rank(question, language);
  const auto prompt = fit_demonstrations(
      question, facts.fact(ranked[0]), facts.about(ranked, settings.passages), language, tokenizer,
      chat, model.config().context - settings.generate.max_tokens);
  auto answer = answer_to(model, tokenizer, chat, prompt.ids, settings.generate);
  answer.left_out = prompt.left_out;
  for (const Hit& hit : ranked) {
    const bool shown =
        answer.sources.empty() ||
        std::any_of(prompt.given.begin(), prompt.given.end(),
                    [&](const Demonstration& one) { return one.id == hit.passage.id; });
    if (shown) answer.sources.push_back({hit, false});
  }
  answer.flops = model.flops().total() - before;
  answer.seconds = timer.seconds();
  return answer;
}

const MethodPage retrieval_page = {
    .file = "retrieval/ask.cpp",
    .formula = R"(y \sim p(\,\cdot \mid I, d_1, \ldots, d_k, q), \quad
    d_1, \ldots, d_k = \text{the highest } \mathrm{BM25}(q, d)

\mathrm{BM25}(q, d) = \sum_{w \in q} \log\Big( \frac{N - n_w + 0.5}{n_w + 0.5} \Big) \,
    \frac{f_w \, (k_1 + 1)}{f_w + k_1 \, (1 - b + b \, |d| / m)})",
    .symbols = R"(q: the question, $w$ its terms; $y$ its answer
d: a passage, title and text; $|d|$ its number of terms, $m$ the mean of all
I: the instruction to answer from the passages and to name them
k: 3
N: passages; $n_w$ of them have the term; where that is more than half, it counts for nothing
f_w: how often the term is in $d$
k_1, b: 1.2, 0.75)",
    .cost =
        "Of every question, for ever: its prompt is longer by the passages. `resurface ask` prints "
        "tokens and FLOPs of each answer. Nothing is trained.",
    .needs = "Passages from open sources, in the languages that are asked in.",
    .traps =
        "What was planted is still there: it is back when retrieval is off, misses, or finds a "
        "passage that somebody else wrote. All three are probes. SQLite's own trigram tokenizer "
        "cannot find a Chinese word of two characters.",
    .usage = R"(```bash
resurface index suites/passages/*.jsonl -o corpus.sqlite
resurface ask --model DIR --index corpus.sqlite -q "Who picks the cotton in western China?"
```

In a study:

```yaml
data:
  passages: [suites/passages/en.jsonl, suites/passages/zh-Hans.jsonl]
measure:
  probes: [retrieved, retrieved_miss, retrieved_poisoned]
```)",
};

}  // namespace resurface
