// Byte-pair encoding (Sennrich et al. 2016) of one word, over characters or over bytes.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/token_model.h"

namespace resurface {

class Bpe : public TokenModel {
 public:
  /// `model` of tokenizer.json; `bytes`: words are raw bytes, the vocabulary is in GPT-2's
  /// alphabet. Throws Error for dropout and for merges that name unknown tokens.
  Bpe(const JsonNode& model, bool bytes);
  /// tiktoken's: tokens in GPT-2's alphabet, the id is the rank, any two tokens merge whose
  /// concatenation is a token. Throws Error when a byte has no token.
  explicit Bpe(std::vector<std::string> tokens);

  /// What has no token becomes the unknown token or, where the file names none, is left out, as
  /// `tokenizers` does. Throws Error when it names one that is not there. Time n log n in the
  /// length of the word.
  void encode(std::string_view word, Scratch& scratch) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  struct Merge {
    uint64_t pair = ~uint64_t{0};
    uint32_t rank = 0, id = 0;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  void read_merges(const JsonNode& node);
  void read_bytes();
  void find_whole_words();
  void check_may_drop() const;
  const Merge* find_merge(uint32_t left, uint32_t right) const;
  Merge& slot(uint64_t pair);
  std::optional<uint32_t> whole_word(std::string_view word) const;
  void start_from_bytes(std::string_view word, Scratch& scratch) const;
  void start_from_characters(std::string_view word, Scratch& scratch) const;
  void merge(Scratch& scratch) const;
  void push(Scratch& scratch, int32_t at) const;

  Vocabulary vocabulary_;
  std::vector<Merge> merges_;  ///< open addressing, a power of two
  std::string prefix_, suffix_, unknown_name_;
  int64_t unknown_ = -1;
  bool bytes_ = false, byte_fallback_ = false, fuse_unknown_ = false, ignore_merges_ = false;
  std::array<int64_t, 256> byte_ids_{};  ///< over bytes: of each; else of <0x00> to <0xFF>
  /// Over bytes: words that come out as one token, most words of a text, found without merging.
  std::unordered_map<std::string, uint32_t, Hash, std::equal_to<>> whole_;
};

}  // namespace resurface
