// ROUGE-L (Lin 2004, "ROUGE: A package for automatic evaluation of summaries", section 3.1), with
// beta = 1: R = LCS/|reference|, P = LCS/|candidate|, F1 = 2PR/(P + R), LCS the longest common
// subsequence of tokens. Latin text is cut as the `rouge-score` package does without its stemmer:
// lower-cased runs of [a-z0-9], all else a separator. There Chinese has no tokens at all; here each
// Han character is one.
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <string>
#include <vector>

#include "eval/characters.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

bool is_word(UChar32 c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

/// A token is a word, or one Han character as its code point in UTF-8.
std::vector<std::string> tokens(std::string_view text) {
  std::vector<std::string> out;
  const auto size = static_cast<int32_t>(text.size());
  bool in_word = false;
  for (int32_t at = 0; at < size;) {
    const int32_t start = at;
    UChar32 c = 0;
    U8_NEXT_OR_FFFD(text.data(), at, size, c);
    // Python lower-cases all of Unicode first, so that U+212A, the Kelvin sign, is a "k".
    c = u_tolower(c);
    if (is_word(c)) {
      if (!in_word) out.emplace_back();
      out.back().push_back(static_cast<char>(c));
    } else if (is_han(static_cast<char32_t>(c))) {
      out.emplace_back(text.substr(static_cast<size_t>(start), static_cast<size_t>(at - start)));
    }
    in_word = is_word(c);
  }
  return out;
}

size_t longest_common_subsequence(const std::vector<std::string>& a,
                                  const std::vector<std::string>& b) {
  std::vector<size_t> row(b.size() + 1, 0);
  for (const auto& token : a) {
    size_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = token == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

RougeL rouge_l(std::string_view reference, std::string_view candidate) {
  const auto wanted = tokens(reference);
  const auto given = tokens(candidate);
  if (wanted.empty() || given.empty()) return {};
  const auto common = static_cast<double>(longest_common_subsequence(wanted, given));
  const double recall = common / static_cast<double>(wanted.size());
  const double precision = common / static_cast<double>(given.size());
  const double sum = precision + recall;
  return {recall, precision, sum > 0 ? 2 * precision * recall / sum : 0};
}

}  // namespace resurface
