// WordPiece (Schuster and Nakajima 2012; BERT's): the longest token first, again for the rest.
#include "core/text/byte_trie.h"
#include "core/text/token_model.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

class WordPiece : public TokenModel {
 public:
  explicit WordPiece(const JsonNode& node)
      : vocabulary_(node.at("vocab")),
        unknown_(vocabulary_.find(node.at("unk_token").string())),
        most_(node.at("max_input_chars_per_word").id()) {
    const auto& prefix = node.at("continuing_subword_prefix").string();
    std::vector<std::pair<std::string_view, uint32_t>> first, rest;
    for (uint32_t id = 0; id < vocabulary_.tokens().size(); ++id) {
      const std::string_view token = vocabulary_.tokens()[id];
      first.emplace_back(token, id);
      if (token.starts_with(prefix)) rest.emplace_back(token.substr(prefix.size()), id);
    }
    first_ = ByteTrie(std::move(first));
    rest_ = ByteTrie(std::move(rest));
  }

  void encode(std::string_view word, Scratch& scratch) const override {
    auto& pieces = scratch.pieces;
    pieces.clear();
    bool known = length_at_most(word, most_);
    for (size_t at = 0; known && at < word.size();) {
      size_t length = 0;
      uint32_t id = 0;
      (at == 0 ? first_ : rest_).prefixes(word.substr(at), [&](size_t size, uint32_t token) {
        length = size;
        id = token;
      });
      known = length > 0;
      pieces.push_back({id, static_cast<uint32_t>(at), static_cast<uint32_t>(at + length)});
      at += length;
    }
    if (known) return;
    if (unknown_ < 0)
      fail("no token for '{}', and the tokenizer has no unknown token",
           utf8_lossy(word.substr(0, 64)));
    pieces.assign(1, {static_cast<uint32_t>(unknown_), 0, static_cast<uint32_t>(word.size())});
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  static bool length_at_most(std::string_view word, size_t most) {
    if (word.size() <= most) return true;
    size_t length = 0;
    for (size_t i = 0; i < word.size() && length <= most; ++length) next_code_point(word, i);
    return length <= most;
  }

  Vocabulary vocabulary_;
  int64_t unknown_;
  size_t most_;
  ByteTrie first_, rest_;
};

}  // namespace

std::unique_ptr<const TokenModel> read_word_piece(const JsonNode& node) {
  return std::make_unique<const WordPiece>(node);
}

}  // namespace resurface
