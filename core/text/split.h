// Cutting pieces of a text: tokenizers, NormalizedString::split.
#pragma once

#include "core/text/rewrite.h"

namespace resurface {

/// What becomes of the parts that a pattern matched.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
Behavior read_behavior(const JsonNode& node);

/// Cuts pieces where `find` matches; `invert`: what it does not match counts as matched.
PreTokenizer splitter(Finder find, Behavior behavior, bool invert = false);
/// The same, matching single characters.
PreTokenizer splitter(bool (*matches)(int32_t), Behavior behavior);

}  // namespace resurface
