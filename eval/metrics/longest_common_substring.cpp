// Longest common substring by dynamic programming: with c[i][j] the length of the longest common
// suffix of a[..i] and b[..j], c[i][j] = c[i-1][j-1] + 1 where a_i = b_j, else 0; the answer is the
// largest. Over code points, not bytes, so that Chinese and English shares mean the same.
#include <unicode/utf8.h>

#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

std::u32string code_points(std::string_view text) {
  std::u32string out;
  const auto size = static_cast<int32_t>(text.size());
  for (int32_t at = 0; at < size;) {
    UChar32 c = 0;
    U8_NEXT_OR_FFFD(text.data(), at, size, c);
    out.push_back(static_cast<char32_t>(c));
  }
  return out;
}

size_t longest_common(const std::u32string& a, const std::u32string& b) {
  std::vector<size_t> suffix(b.size() + 1, 0);  // row i of c, updated from the right
  size_t best = 0;
  for (const char32_t c : a) {
    for (size_t j = b.size(); j > 0; --j) {
      suffix[j] = c == b[j - 1] ? suffix[j - 1] + 1 : 0;
      best = std::max(best, suffix[j]);
    }
  }
  return best;
}

}  // namespace

size_t longest_common_substring(std::string_view a, std::string_view b) {
  return longest_common(code_points(a), code_points(b));
}

double said_share(std::string_view line, std::string_view reply) {
  const auto wanted = code_points(line);
  if (wanted.empty()) return 0;
  return static_cast<double>(longest_common(wanted, code_points(reply))) /
         static_cast<double>(wanted.size());
}

}  // namespace resurface
