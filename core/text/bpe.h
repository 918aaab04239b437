// Byte-pair encoding (Sennrich et al. 2016) of one word, over bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/json_node.h"

namespace resurface {

/// A token of a word and the bytes of the word that it covers.
struct Piece {
  uint32_t id;
  uint32_t begin, end;
};

class Bpe {
 public:
  /// `model` of tokenizer.json. Throws Error for another model, and for what is not implemented
  /// (dropout, byte_fallback, sub-word affixes), for merges that name unknown tokens.
  explicit Bpe(const JsonNode& model);

  /// Reusable memory of encode(), one a thread.
  struct Scratch {
    struct Symbol {
      uint32_t id, begin, end;
      int32_t previous, next;
    };
    struct Candidate {
      uint32_t rank;
      int32_t at;  ///< the left symbol
      uint32_t id;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::vector<Piece> pieces;
  };

  /// The tokens of `word` (raw bytes), in scratch.pieces. A byte that has no token becomes the
  /// unknown token or, where there is none, is left out, as `tokenizers` does.
  void encode(std::string_view word, Scratch& scratch) const;

  /// As written in the file, in GPT-2's byte alphabet.
  const std::unordered_map<std::string, uint32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint64_t pair = ~uint64_t{0};
    uint32_t rank = 0, id = 0;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  void read_vocabulary(const JsonNode& node);
  void read_merges(const JsonNode& node);
  void read_unknown(const JsonNode& model);
  void find_whole_words(bool ignore_merges);
  const Merge* find_merge(uint32_t left, uint32_t right) const;
  Merge& slot(uint64_t pair);
  void merge(std::string_view word, Scratch& scratch) const;
  void push(Scratch& scratch, int32_t at) const;

  std::unordered_map<std::string, uint32_t> vocabulary_;
  std::vector<Merge> merges_;  ///< open addressing, a power of two
  std::array<int64_t, 256> byte_ids_{};
  int64_t unknown_ = -1;
  bool fuse_unknown_ = false;
  /// Words (raw bytes) that come out as one token: most words of a text, found without merging.
  std::unordered_map<std::string, uint32_t, Hash, std::equal_to<>> whole_;
};

}  // namespace resurface
