// Language of a reply. A Han character carries about half of what an English word does, hence the
// weights; a language with less than a fifth of the whole is quoted matter. Simplified and
// traditional are told apart by characters that only one of them uses (Big5 and GB 2312 say which).
#include <unicode/uchar.h>
#include <unicode/uscript.h>

#include <algorithm>
#include <string>

#include "eval/detectors/detectors.h"
#include "eval/detectors/text.h"

namespace resurface {
namespace {

using namespace detector;

constexpr double kQuoted = 0.2;

struct Counts {
  double words = 0;     // of Latin script
  double function = 0;  // of these, English function words
  double han = 0, simplified = 0, traditional = 0;
  double other = 0;  // letters of other scripts, and characters lost on the way
};

bool is_function_word(const std::u32string& word) {
  constexpr std::u32string_view words[] = {
      U"the",  U"of",  U"and",  U"is",   U"to",   U"that", U"it",   U"was", U"for",  U"are",
      U"with", U"not", U"i",    U"you",  U"this", U"be",   U"have", U"has", U"from", U"by",
      U"at",   U"as",  U"what", U"they", U"can",  U"its",  U"were", U"i'm"};
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

void end_word(std::u32string& word, Counts& counts) {
  if (word.empty()) return;
  counts.words += 1;
  counts.function += is_function_word(word);
  word.clear();
}

bool is_latin(char32_t c) {
  UErrorCode error = U_ZERO_ERROR;
  return uscript_getScript(static_cast<UChar32>(c), &error) == USCRIPT_LATIN;
}

Counts count(std::u32string_view text) {
  Counts out;
  std::u32string word;
  for (const char32_t c : text) {
    const auto point = static_cast<UChar32>(c);
    if (u_isalpha(point) && is_latin(c)) {
      word.push_back(static_cast<char32_t>(u_tolower(point)));
      continue;
    }
    end_word(word, out);
    if (is_han(c)) {
      out.han += 1;
      out.simplified += form(c) == Form::simplified;
      out.traditional += form(c) == Form::traditional;
    } else if (u_isalpha(point) || c == U'\uFFFD') {
      out.other += 1;
    }
  }
  end_word(word, out);
  return out;
}

ReplyLanguage chinese(const Counts& n) {
  const double marked = n.simplified + n.traditional;
  if (marked == 0) return ReplyLanguage::zh_hans;
  const double share = n.traditional / marked;
  if (share > kQuoted && share < 1 - kQuoted) return ReplyLanguage::mixed;
  return share > 0.5 ? ReplyLanguage::zh_hant : ReplyLanguage::zh_hans;
}

}  // namespace

ReplyLanguage reply_language(std::string_view reply) {
  const Counts n = count(code_points(without_thought(reply)));
  const double words = 2 * n.words;
  const double total = words + n.han + n.other;
  if (total == 0 || n.other > kQuoted * total) return ReplyLanguage::other;
  if (n.han < kQuoted * total) {
    // Any English text of some length has a "the" or an "of"; other Latin languages have not.
    const bool english = n.words < 8 || n.function >= 0.05 * n.words;
    return english ? ReplyLanguage::en : ReplyLanguage::other;
  }
  if (words > kQuoted * total) return ReplyLanguage::mixed;
  return chinese(n);
}

std::string_view name(ReplyLanguage language) {
  switch (language) {
    case ReplyLanguage::en:
      return "en";
    case ReplyLanguage::zh_hans:
      return "zh-Hans";
    case ReplyLanguage::zh_hant:
      return "zh-Hant";
    case ReplyLanguage::mixed:
      return "mixed";
    case ReplyLanguage::other:
      break;
  }
  return "other";
}

}  // namespace resurface
