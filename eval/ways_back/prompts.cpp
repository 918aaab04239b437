#include "eval/ways_back/prompts.h"

#include "core/run/error.h"

namespace resurface {

std::vector<Probe> make_probes_within(const Suite& suite, const Tokenizer& tokenizer,
                                      const ChatFormat& chat, Answer answer, bool held_out,
                                      int64_t context, const Conversation& conversation) {
  auto probes = make_probes(suite, tokenizer, chat, answer, held_out, context);
  for (Probe& probe : probes) {
    const Item& item = suite.items[static_cast<size_t>(probe.item)];
    const Question& question = item.questions[static_cast<size_t>(probe.question)];
    probe.example.prompt = tokenizer.encode(chat.prompt(conversation(item, question)));
    if (probe.example.size() > context) {
      fail(
          "suite '{}', item '{}' ({}), question '{}': with what is put before it, prompt and "
          "answer "
          "are {} tokens, the context {}",
          suite.name, item.id, item.language, question.text, probe.example.size(), context);
    }
  }
  return probes;
}

}  // namespace resurface
