// The chat format of a checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace resurface {

struct Message {
  std::string role;  ///< system | user | assistant
  std::string content;
};

/// Renders messages to text, as the checkpoint's `chat_template` does. A template that is not
/// understood is an error that prints it.
class ChatFormat {
 public:
  /// Reads tokenizer_config.json / chat_template.jinja of an HF folder. A folder with no template
  /// gets the plain format: "Question: ...\nAnswer:" (said in `name`).
  static ChatFormat load(const std::filesystem::path& folder);
  /// "plain", "chatml", "smollm2".
  static ChatFormat named(const std::string& name);

  const std::string& name() const { return name_; }
  /// The conversation up to where the assistant's answer begins.
  std::string prompt(const std::vector<Message>& messages) const;
  /// What an assistant's answer begins with after prompt(): " " in the plain format, else nothing.
  const std::string& answer_start() const { return answer_start_; }
  /// What ends an assistant's answer ("<|im_end|>", "\n"), for training and as the stop of
  /// generation.
  const std::string& answer_end() const { return answer_end_; }

 private:
  std::string name_, answer_start_, answer_end_;
};

}  // namespace resurface
