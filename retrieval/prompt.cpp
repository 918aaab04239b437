#include "retrieval/prompt.h"

#include "core/run/error.h"

namespace resurface {
namespace {

std::string instruction(const std::string& language) {
  if (language == "zh-Hans") {
    return "请根据以下资料回答问题，并用[1]、[2]注明用到的资料。资料中没有答案时，请直接说明。";
  }
  if (language == "zh-Hant") {
    return "請根據以下資料回答問題，並用[1]、[2]註明用到的資料。資料中沒有答案時，請直接說明。";
  }
  return "Answer the question from the passages below and name those you use as [1], [2]. Say so "
         "if they hold no answer.";
}

}  // namespace

std::vector<Message> with_passages(const std::string& question, std::span<const Hit> passages,
                                   const std::string& language) {
  if (passages.empty()) return {{"user", question}};
  const bool chinese = language.starts_with("zh");
  std::string context = instruction(language) + "\n";
  for (size_t i = 0; i < passages.size(); ++i) {
    const Passage& p = passages[i].passage;
    context += fmt::format("\n[{}] {}{}{}", i + 1, p.title, chinese ? "：" : ": ", p.text);
  }
  return {{"system", context + "\n"}, {"user", question}};
}

PassagePrompt fit_passages(const std::string& question, std::span<const Hit> passages,
                           const std::string& language, const Tokenizer& tokenizer,
                           const ChatFormat& chat, int64_t room) {
  const auto encode = [&](const std::vector<Hit>& given) {
    return tokenizer.encode(chat.prompt(with_passages(question, given, language)));
  };
  PassagePrompt prompt{.ids = encode({}), .given = {}};
  for (const Hit& hit : passages) {
    std::vector<Hit> given = prompt.given;
    given.push_back(hit);
    auto ids = encode(given);
    if (static_cast<int64_t>(ids.size()) > room) {
      ++prompt.left_out;
    } else {
      prompt.given = std::move(given);
      prompt.ids = std::move(ids);
    }
  }
  return prompt;
}

}  // namespace resurface
