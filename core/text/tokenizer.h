// A model's tokenizer: what its tokenizer.json says, or a bare SentencePiece tokenizer.model, or
// tiktoken's file as Kimi-K2 and Qwen ship it. What is not implemented is refused by name.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace resurface {

/// Ids and, for each, the bytes [begin, end) of the input text that it came from: those of
/// `tokenizers`, but that a token of a part of a character has just its bytes, where the normaliser
/// left the character alone.
struct Encoding {
  std::vector<int64_t> ids;
  std::vector<std::pair<int64_t, int64_t>> offsets;  ///< bytes of the UTF-8 input
};

/// Files of an HF folder that say how text becomes tokens and a conversation text.
inline constexpr std::array kTextFiles = {"tokenizer.json",      "tokenizer_config.json",
                                          "chat_template.jinja", "tokenizer.model",
                                          "tiktoken.model",      "qwen.tiktoken"};
/// And those that count only where tokenizer_config.json has no added_tokens_decoder.
inline constexpr std::array kOlderTextFiles = {"special_tokens_map.json", "added_tokens.json"};

class Tokenizer {
 public:
  /// `folder` holds tokenizer.json, or tiktoken.model, qwen.tiktoken or tokenizer.model (the first
  /// that is there), with tokenizer_config.json. Throws Error naming file and component.
  static Tokenizer load(const std::filesystem::path& folder);

  /// No special tokens are added; special tokens written in the text are recognised, as
  /// `tokenizers` does. Throws Error when the text is not valid UTF-8.
  Encoding encode_with_offsets(std::string_view text) const;
  std::vector<int64_t> encode(std::string_view text) const;
  /// With the special tokens that the post-processor adds (offsets 0, 0). A bare tokenizer.model
  /// adds bos and eos as tokenizer_config.json's add_bos_token and add_eos_token say (without them:
  /// bos).
  Encoding encode_special(std::string_view text) const;
  /// A text that goes on: begun with the special tokens that encode_special puts before it (Gemma's
  /// and Llama's <bos>), once where the text writes them itself, and without those behind it.
  std::vector<int64_t> encode_prompt(std::string_view text) const;
  /// Bytes that are not valid UTF-8 become U+FFFD, as in `tokenizers`.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = false) const;

  int64_t vocab_size() const;  ///< largest id + 1
  /// -1 when there is no such token.
  int64_t token_id(const std::string& token) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace resurface
