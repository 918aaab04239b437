#include "retrieval/ask.h"

#include "core/run/error.h"
#include "core/run/resources.h"
#include "retrieval/terms.h"

namespace resurface {

SourcedAnswer ask(const Model& model, const Tokenizer& tokenizer, const ChatFormat& chat,
                  const PassageIndex* index, const std::string& question,
                  const AskSettings& settings) {
  const Timer timer;
  const double before = model.flops().total();
  std::vector<Hit> hits;
  if (index != nullptr) hits = index->search(question, settings.passages, settings.language);
  const std::string language = !settings.language.empty() ? settings.language
                               : has_chinese(question)    ? "zh-Hans"
                                                          : "en";
  const int64_t context = model.config().context;
  const auto prompt = fit_passages(question, hits, language, tokenizer, chat,
                                   context - settings.generate.max_tokens);
  const auto size = static_cast<int64_t>(prompt.ids.size());
  if (size == 0) fail("the question has no tokens");
  if (size >= context) {
    fail("the question has {} tokens, which leaves no room in a context of {}", size, context);
  }

  GenerateOptions options = settings.generate;
  const auto end = tokenizer.encode(chat.answer_end());
  if (end.size() == 1) options.stop_ids.push_back(end[0]);
  const auto ids = generate(model, std::span(&prompt.ids, 1), options)[0];
  SourcedAnswer answer{.text = tokenizer.decode(ids, /*skip_special=*/true),
                       .left_out = prompt.left_out,
                       .prompt_tokens = size,
                       .tokens = static_cast<int64_t>(ids.size())};
  if (!chat.answer_end().empty()) {
    answer.text = answer.text.substr(0, answer.text.find(chat.answer_end()));
  }
  if (answer.text.starts_with(chat.answer_start())) {
    answer.text.erase(0, chat.answer_start().size());
  }
  for (size_t i = 0; i < prompt.given.size(); ++i) {
    const bool cited = answer.text.find(fmt::format("[{}]", i + 1)) != std::string::npos;
    answer.sources.push_back({prompt.given[i], cited});
  }
  answer.flops = model.flops().total() - before;
  answer.seconds = timer.seconds();
  return answer;
}

}  // namespace resurface
