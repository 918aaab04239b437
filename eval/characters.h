// Text as characters: metrics and detectors count code points, not bytes, so that shares of Chinese
// and of English text mean the same.
#pragma once

#include <string>
#include <string_view>

namespace resurface {

/// Code points of UTF-8; a bad byte is U+FFFD.
std::u32string code_points(std::string_view text);

bool is_han(char32_t c);

struct CommonRun {
  size_t start = 0;  ///< in the first text
  size_t length = 0;
};

/// The longest run of characters that stands in both texts, the first of them where several are.
CommonRun longest_common_run(std::u32string_view text, std::u32string_view other);

}  // namespace resurface
