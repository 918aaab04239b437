// Text as the terms that are indexed and looked for. Alphabetic scripts give their words. Chinese,
// which writes no spaces, gives pairs of neighbouring characters: no dictionary, and a word of two
// characters, the commonest length, is found as it is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace resurface {

/// Words (runs of letters and digits) and, of each run of Chinese characters, every character and
/// every pair, in their order: "台湾2300万人" gives 台 湾 台湾 2300 万 人 万人. Width, case,
/// compatibility forms (NFKC) and traditional characters (ICU's Traditional-Simplified) are folded.
std::vector<std::string> index_terms(std::string_view text);

/// What to look for, each term once: as index_terms, but single characters only where they stand
/// alone, since the pairs say more.
std::vector<std::string> query_terms(std::string_view text);

/// Whether there is a Chinese character in the text.
bool has_chinese(std::string_view text);

}  // namespace resurface
