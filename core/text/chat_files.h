// What an HF folder says of its chat format.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace resurface {

struct ChatFiles {
  std::optional<std::string> text;  ///< the template
  std::string where;                ///< its file and key
  /// bos_token, eos_token, ... as templates see them, and "special_tokens": the texts of all that
  /// are marked as special.
  nlohmann::ordered_json tokens;
  std::string begin;  ///< what the tokenizer puts before a text of itself
};

/// As transformers: chat_template.jinja before tokenizer_config.json's chat_template; of several
/// the one named default. Throws Error naming file and key.
ChatFiles read_chat_files(const std::filesystem::path& folder);

}  // namespace resurface
