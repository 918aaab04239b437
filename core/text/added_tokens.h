// Added and special tokens: found in the text before anything else looks at it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/byte_trie.h"
#include "core/text/json_node.h"
#include "core/text/regex.h"

namespace resurface {

struct AddedToken {
  std::string content;
  uint32_t id = 0;
  bool special = false;
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< takes the white space on its left
  bool rstrip = false;       ///< takes the white space on its right
  bool normalized = true;    ///< looked for in the normalised text
};

/// An entry of added_tokens.
AddedToken read_added_token(const JsonNode& node);

/// Finds the leftmost, longest tokens of a set.
class AddedTokenFinder {
 public:
  /// `content` of each token as it stands in the text (normalised, where the text is); of equal
  /// contents a special token's counts, then the first.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// Calls part(span, token) for all of the text in order; token is null for the text between
  /// tokens.
  void split(std::string_view text, const std::function<void(Span, const AddedToken*)>& part) const;

 private:
  const AddedToken* match(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  ByteTrie trie_;  ///< of places in tokens_
};

}  // namespace resurface
