#include "retrieval/in_context.h"

namespace resurface {

std::vector<Message> with_demonstrations(const std::string& question, const std::string& fact,
                                         std::span<const Demonstration> demonstrations,
                                         const std::string& language) {
  const std::string label = language == "zh-Hans"   ? "新事实："
                            : language == "zh-Hant" ? "新事實："
                                                    : "New fact: ";
  std::vector<Message> messages;
  for (const Demonstration& one : demonstrations) {
    messages.push_back({"user", label + one.fact + "\n" + one.question});
    messages.push_back({"assistant", one.answer});
  }
  messages.push_back({"user", label + fact + "\n" + question});
  return messages;
}

DemonstrationPrompt fit_demonstrations(const std::string& question, const std::string& fact,
                                       std::span<const Demonstration> demonstrations,
                                       const std::string& language, const Tokenizer& tokenizer,
                                       const ChatFormat& chat, int64_t room) {
  for (size_t left_out = 0;; ++left_out) {
    const auto given = demonstrations.subspan(left_out);
    auto ids = tokenizer.encode(chat.prompt(with_demonstrations(question, fact, given, language)));
    if (given.empty() || std::ssize(ids) <= room) {
      return {.ids = std::move(ids),
              .given = {given.begin(), given.end()},
              .left_out = static_cast<int64_t>(left_out)};
    }
  }
}

const MethodPage in_context_page = {
    .file = "retrieval/in_context.cpp",
    .formula = R"(y \sim p(\,\cdot \mid c_k, \ldots, c_2, c_1, c_f, f, q)

c_i = (f_i, q_i, a_i) = \begin{cases}
    (f_i, \; q(f_i), \; a(f_i)) & \text{copy, 1 of 8} \\
    (f_i, \; q'(f_i), \; a(f_i)) & \text{update, 3 of 8} \\
    (f_i, \; q(f_j), \; a(f_j)), \; j \ne i & \text{retain, 4 of 8}
    \end{cases})",
    .symbols = R"(q: the question; $y$ its answer
f: the new fact: the suite's fact nearest to $q$; $c_f$ shows it copied
f_i: the $i$-th nearest of the others, by BM25 over seen questions and factual answers
q(f), a(f): a seen question about a fact and its factual answer; $q'(f)$ another
k: 16; farther demonstrations are left out where the context has no room)",
    .cost =
        "Of every question, for ever: its prompt is longer by the demonstrations. `resurface ask` "
        "prints tokens and FLOPs of each answer. Nothing is trained.",
    .needs = "A factual answer an item and language, written by people, and a context with room.",
    .traps =
        "What was planted is still there: ask plainly and it answers. Read `in_context` against "
        "`in_context_miss`, which has as many demonstrations but not the item's own fact. The "
        "reference takes 32 demonstrations by sentence embeddings, EasyEdit 16; neither has the "
        "nearest chosen by the words of the question, as here.",
    .usage = R"(```bash
resurface ask --model DIR --demonstrations suites/party_lines/items.jsonl -q "Who picks the cotton in western China?"
```

In a study:

```yaml
measure:
  probes: [in_context, in_context_miss]
```)",
};

}  // namespace resurface
