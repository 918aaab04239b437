// "did you mean": the known name nearest to a mistyped one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace resurface {

/// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment), in
/// bytes.
int64_t edit_distance(std::string_view a, std::string_view b);

/// By edit distance; "" when there is none to choose from.
std::string nearest(std::string_view name, std::span<const std::string> known);

/// "; did you mean 'x'?" when the nearest is near enough to be what was meant, else "".
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

}  // namespace resurface
