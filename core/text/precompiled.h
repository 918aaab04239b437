// SentencePiece's character map, compiled into a double-array trie (Darts-clone), as tokenizer.json
// keeps it and as `tokenizers` applies it.
#pragma once

#include <unicode/brkiter.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/rewrite.h"

namespace resurface {

class Precompiled {
 public:
  /// The entry of the normaliser, with its precompiled_charsmap. Throws Error when that is cut
  /// short or not base64.
  explicit Precompiled(const JsonNode& node);

  void apply(Text& text) const;

 private:
  std::optional<std::string_view> replacement(std::string_view part) const;
  void for_each_grapheme(std::string_view text,
                         const std::function<void(std::string_view)>& part) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;  ///< each ends with a zero byte
  std::shared_ptr<const icu::BreakIterator> breaks_;
};

}  // namespace resurface
