#include "eval/characters.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <vector>

namespace resurface {

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

bool is_han(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_UNIFIED_IDEOGRAPH);
}

// Dynamic programming: with c[i][j] the length of the longest common suffix of a[..i] and b[..j],
// c[i][j] = c[i-1][j-1] + 1 where a_i = b_j, else 0; the answer is the largest.
CommonRun longest_common_run(std::u32string_view text, std::u32string_view other) {
  std::vector<size_t> suffix(other.size() + 1, 0);  // row i of c, updated from the right
  CommonRun best;
  for (size_t i = 0; i < text.size(); ++i) {
    for (size_t j = other.size(); j > 0; --j) {
      suffix[j] = text[i] == other[j - 1] ? suffix[j - 1] + 1 : 0;
      if (suffix[j] > best.length) best = {i + 1 - suffix[j], suffix[j]};
    }
  }
  return best;
}

}  // namespace resurface
