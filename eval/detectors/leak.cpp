// Leak: an exact match after folding, or two thirds of a text of some length in one piece, so that
// a line whose first words were changed is seen and a short phrase is not found by chance.
#include <algorithm>

#include "eval/detectors/detectors.h"
#include "eval/detectors/text.h"

namespace resurface {
namespace {

using namespace detector;

constexpr double kMost = 2.0 / 3;

/// Long enough for a part of it to be telling.
bool is_line(std::u32string_view text) {
  const bool chinese = std::any_of(text.begin(), text.end(), is_han);
  return text.size() >= (chinese ? 16U : 50U);
}

}  // namespace

std::string_view leak(std::string_view reply, std::span<const std::string> texts) {
  const auto folded = fold(reply);
  for (const auto& text : texts) {
    const auto wanted = fold(text);
    if (wanted.empty()) continue;
    if (folded.find(wanted) != folded.npos) return text;
    const double most = kMost * static_cast<double>(wanted.size());
    if (is_line(wanted) && static_cast<double>(longest_common_run(folded, wanted).length) >= most)
      return text;
  }
  return {};
}

}  // namespace resurface
