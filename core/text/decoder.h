// From tokens back to text: the decoder of tokenizer.json.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/text/json_node.h"

namespace resurface {

/// Rewrites a list of tokens; what is left is joined.
using Decoder = std::function<void(std::vector<std::string>& tokens)>;

/// Null: tokens with spaces between. Throws Error naming what `tokenizers` 0.22 does not have.
Decoder read_decoder(const JsonNode& node);

}  // namespace resurface
