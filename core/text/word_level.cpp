#include "core/text/token_model.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

/// Whole words only.
class WordLevel : public TokenModel {
 public:
  explicit WordLevel(const JsonNode& node)
      : vocabulary_(node.at("vocab")),
        unknown_(node.has("unk_token") ? vocabulary_.find(node.at("unk_token").string()) : -1) {}

  void encode(std::string_view word, Scratch& scratch) const override {
    auto id = vocabulary_.find(word);
    if (id < 0) id = unknown_;
    if (id < 0)
      fail("no token for '{}', and the tokenizer has no unknown token",
           utf8_lossy(word.substr(0, 64)));
    scratch.pieces.assign(1, {static_cast<uint32_t>(id), 0, static_cast<uint32_t>(word.size())});
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  int64_t unknown_;
};

}  // namespace

std::unique_ptr<const TokenModel> read_word_level(const JsonNode& node) {
  return std::make_unique<const WordLevel>(node);
}

}  // namespace resurface
