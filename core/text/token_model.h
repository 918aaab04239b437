// What turns a word into tokens: BPE, Unigram, WordPiece or WordLevel.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "core/text/vocabulary.h"

namespace resurface {

/// A token of a word and the bytes of the word that it covers.
struct Piece {
  uint32_t id;
  uint32_t begin, end;
};

/// Reusable memory of an encoding, one a thread.
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
  struct Node {
    double score;
    uint32_t from, id;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<Node> nodes;
  std::vector<Piece> pieces;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// The tokens of `word`, which is not empty, in scratch.pieces. Throws Error where the model has
  /// no token for it.
  virtual void encode(std::string_view word, Scratch& scratch) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

/// `model` of tokenizer.json. `bytes`: words are raw bytes, the vocabulary is in GPT-2's alphabet
/// (BPE only; see reads_bytes). Throws Error for what is not implemented and for contradictions.
std::unique_ptr<const TokenModel> read_model(const JsonNode& node, bool bytes);
/// The model can read raw bytes in place of text written in the alphabet.
bool reads_bytes(const JsonNode& node);

std::unique_ptr<const TokenModel> read_unigram(const JsonNode& node);
std::unique_ptr<const TokenModel> read_word_piece(const JsonNode& node);
std::unique_ptr<const TokenModel> read_word_level(const JsonNode& node);

}  // namespace resurface
