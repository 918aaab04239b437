// What tokenizer.json does to the tokens of a text: special tokens around it, spaces out of
// offsets.
#pragma once

#include <functional>
#include <vector>

#include "core/text/json_node.h"
#include "core/text/regex.h"

namespace resurface {

/// A token of a text as post-processors see it.
struct Token {
  uint32_t id;
  Span source;  ///< bytes of the input; the empty span at 0 for what was added
  uint32_t leading = 0, trailing = 0;  ///< spaces at its ends
};

/// `input` is the text, `special`: special tokens are wanted.
using PostProcessor =
    std::function<void(std::string_view input, bool special, std::vector<Token>& tokens)>;

/// Throws Error naming what `tokenizers` 0.22 does not have, and tokens that a template lacks.
PostProcessor read_post_processor(const JsonNode& node);

/// Puts ids before and after.
PostProcessor surround(std::vector<uint32_t> before, std::vector<uint32_t> after);

}  // namespace resurface
