#include "retrieval/terms.h"

#include <unicode/normalizer2.h>
#include <unicode/translit.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <memory>

#include "core/run/error.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

void check(UErrorCode error, const char* what) {
  if (U_FAILURE(error)) fail("ICU: {}: {}", what, u_errorName(error));
}

std::unique_ptr<icu::Transliterator> simplifier() {
  UErrorCode error = U_ZERO_ERROR;
  std::unique_ptr<icu::Transliterator> made(
      icu::Transliterator::createInstance("Traditional-Simplified", UTRANS_FORWARD, error));
  check(error, "Traditional-Simplified");
  return made;
}

icu::UnicodeString folded(std::string_view text) {
  static const std::unique_ptr<const icu::Transliterator> simplify = simplifier();
  UErrorCode error = U_ZERO_ERROR;
  const auto* form = icu::Normalizer2::getNFKCCasefoldInstance(error);
  check(error, "NFKC");
  icu::UnicodeString out = form->normalize(
      icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())}), error);
  check(error, "NFKC");
  simplify->transliterate(out);
  return out;
}

// Also 〇, which is no unified ideograph but stands in years.
bool is_chinese(UChar32 c) { return u_hasBinaryProperty(c, UCHAR_IDEOGRAPHIC) != 0; }

/// Neighbouring characters of one kind.
struct Run {
  bool chinese = false;
  std::vector<std::string> characters;
};

std::vector<Run> runs_of(std::string_view text) {
  std::vector<Run> runs;
  bool open = false;
  const icu::UnicodeString letters = folded(text);
  for (int32_t at = 0; at < letters.length(); at = letters.moveIndex32(at, 1)) {
    const UChar32 c = letters.char32At(at);
    const bool chinese = is_chinese(c);
    if (!chinese && !u_isalnum(c)) {
      open = false;
      continue;
    }
    if (!open || runs.back().chinese != chinese) runs.push_back({chinese, {}});
    open = true;
    append_code_point(runs.back().characters.emplace_back(), c);
  }
  return runs;
}

std::vector<std::string> terms_of(std::string_view text, bool query) {
  std::vector<std::string> terms;
  for (const auto& [chinese, characters] : runs_of(text)) {
    if (!chinese) {
      auto& word = terms.emplace_back();
      for (const auto& character : characters) word += character;
      continue;
    }
    if (!query || characters.size() == 1) {
      terms.insert(terms.end(), characters.begin(), characters.end());
    }
    for (size_t i = 0; i + 1 < characters.size(); ++i) {
      terms.push_back(characters[i] + characters[i + 1]);
    }
  }
  return terms;
}

}  // namespace

std::vector<std::string> index_terms(std::string_view text) { return terms_of(text, false); }

std::vector<std::string> query_terms(std::string_view text) {
  std::vector<std::string> terms;
  for (auto& term : terms_of(text, true)) {
    if (std::find(terms.begin(), terms.end(), term) == terms.end()) terms.push_back(term);
  }
  return terms;
}

bool has_chinese(std::string_view text) {
  const auto runs = runs_of(text);
  return std::any_of(runs.begin(), runs.end(), [](const Run& run) { return run.chinese; });
}

}  // namespace resurface
