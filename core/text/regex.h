// A tokenizer's regex, written for Oniguruma (what `tokenizers` runs), executed by PCRE2.
//
// The dialects agree on what tokenizers use, but for a few escapes, which are translated: \s and \w
// are Unicode's White_Space and Oniguruma's word characters, \v is one character, ^ and $ are line
// anchors; a class within a class joins it, && asks for both. What means something else in PCRE2 or
// nothing (\h, negated classes within classes, {n,m}+, ...) is refused by name. \p{...} is of the
// Unicode version that PCRE2 was built with; letters that a later version added are unassigned
// characters to it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace resurface {

/// Bytes [begin, end).
struct Span {
  size_t begin = 0, end = 0;
  size_t size() const { return end - begin; }
};

class Regex {
 public:
  /// `where` (file and key) begins the message of an Error.
  Regex(const std::string& pattern, const std::string& where);

  /// All matches in valid UTF-8, left to right, not overlapping; an empty match right after another
  /// match is passed over. Safe to call from many threads.
  std::vector<Span> find_all(std::string_view text) const;

 private:
  std::shared_ptr<void> code_;  // pcre2_code
};

}  // namespace resurface
