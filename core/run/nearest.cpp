#include "core/run/nearest.h"

namespace resurface {

int64_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<int64_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  std::iota(previous.begin(), previous.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = static_cast<int64_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      int64_t substitute = previous[j - 1] + (a[i - 1] != b[j - 1]);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substitute});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string nearest(std::string_view name, std::span<const std::string> known) {
  auto best = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
  return best == known.end() ? std::string() : *best;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> known) {
  auto match = nearest(name, known);
  auto distance = edit_distance(name, match);
  auto length = static_cast<int64_t>(std::min(name.size(), match.size()));
  bool near = distance <= std::max<int64_t>(2, length / 3) && distance < length;
  return near ? fmt::format("; did you mean '{}'?", match) : "";
}

}  // namespace resurface
