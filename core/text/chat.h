// The chat format of a checkpoint.
#pragma once

#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/run/settings.h"
#include "core/text/jinja/template.h"

namespace resurface {

struct Message {
  std::string role;  ///< system | user | assistant, or what the template knows beside them
  std::string content;
};

/// How a conversation is rendered; by default as the checkpoint says.
struct ChatSettings {
  std::string format;
  std::string system;
  std::string thinking = "default";
  std::string date;
  std::vector<std::string> variables;

  template <class V>
  void visit(V& v) {
    v("format", format,
      "the checkpoint's own by default; a built-in format by its name, or a .jinja file");
    v("system", system, "system prompt of conversations that have none");
    v("thinking", thinking,
      "on or off: the template's own switch; empty: the prompt ends in an empty thought; open: in "
      "one that is begun",
      OneOf{{"default", "on", "off", "empty", "open"}});
    v("date", date, "YYYY-MM-DD, what templates take for today; by default the day of the run");
    v("variables", variables, "further variables of the template, NAME=VALUE (JSON, or else text)");
  }
  bool operator==(const ChatSettings&) const = default;
};

/// Renders messages to text, as the checkpoint's `chat_template` does in transformers. A template
/// that is not understood is an error that prints the line. The text has the special tokens that
/// the template prints, the begin-of-text token too: it is encoded without adding any.
class ChatFormat {
 public:
  /// Reads chat_template.jinja or tokenizer_config.json of an HF folder, unless the settings name
  /// another format. A folder with no template gets the plain format: "Question: ...\nAnswer:"
  /// (said in `name`), begun as the tokenizer would begin a text.
  static ChatFormat load(const std::filesystem::path& folder, const ChatSettings& settings = {});
  /// One of names(), or a .jinja file.
  static ChatFormat named(const std::string& name, const ChatSettings& settings = {});
  static std::vector<std::string> names();

  /// A built-in format's name, "checkpoint", or the file's.
  const std::string& name() const { return name_; }
  /// The conversation up to where the assistant's answer begins. Throws Error where the template
  /// refuses (raise_exception), as transformers does.
  std::string prompt(const std::vector<Message>& messages) const;
  /// Any conversation: messages with tool calls, and variables such as "tools". `answer_next` is
  /// transformers' add_generation_prompt.
  std::string render(const nlohmann::ordered_json& messages, bool answer_next,
                     const nlohmann::ordered_json& variables = {}) const;
  /// What an assistant's answer begins with after prompt(), so that prompt, start, answer and end
  /// are what the template makes of them: " " in the plain format, an empty thought where the
  /// template gives that to answers without one or the prompt has begun a thought, else nothing.
  const std::string& answer_start() const { return answer_start_; }
  /// The prompt with the answer begun by `opening`. A thought at its begin takes the place of the
  /// one that the prompt or answer_start() begins.
  std::string begin_answer(std::string prompt, const std::string& opening) const;
  /// What ends an assistant's answer ("<|im_end|>", "\n"), for training and as the stop of
  /// generation.
  const std::string& answer_end() const { return answer_end_; }
  /// The template prints the date: its prompts differ from day to day unless the settings fix it.
  bool dated() const;

 private:
  static ChatFormat make(std::string name, std::optional<std::string> text,
                         const std::string& where, nlohmann::ordered_json tokens,
                         const ChatSettings& settings);
  void take(const ChatSettings& settings, const std::string& where);
  void find_answer(const std::string& where);
  std::string think(std::string prompt) const;

  std::string name_, answer_start_, answer_end_, system_, thinking_;
  std::string begin_;                        ///< of plain texts
  std::optional<jinja::Template> template_;  ///< none: plain
  nlohmann::ordered_json variables_;         ///< special tokens by name, and the settings'
  std::tm date_{};
};

}  // namespace resurface
