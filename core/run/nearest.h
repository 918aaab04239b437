// "did you mean": the known name nearest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace resurface {

/// By edit distance (Levenshtein over bytes); "" when there is none to choose from.
std::string nearest(std::string_view name, std::span<const std::string> known);

}  // namespace resurface
