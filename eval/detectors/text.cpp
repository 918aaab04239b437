#include "eval/detectors/text.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <unordered_map>

namespace resurface::detector {
namespace {

#include "eval/detectors/han_variants.inc"

struct Variants {
  std::unordered_map<char32_t, char32_t> to_simplified;
  std::unordered_map<char32_t, Form> forms;
};

Variants make_variants() {
  Variants out;
  for (const auto pairs : {kVariants, kSharedVariants}) {
    for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
      out.to_simplified[pairs[i]] = pairs[i + 1];
      out.forms[pairs[i]] = Form::traditional;
      if (pairs == kVariants) out.forms[pairs[i + 1]] = Form::simplified;
    }
  }
  return out;
}

const Variants& variants() {
  static const Variants table = make_variants();
  return table;
}

/// Space, or a character that Unicode folding leaves alone but writers do not tell apart.
char32_t plain(char32_t c) {
  constexpr std::u32string_view quotes = U"\u201C\u201D\u201E\u300C\u300D\u300E\u300F\u00AB\u00BB";
  constexpr std::u32string_view hyphens = U"\u2010\u2011\u2012\u2013";
  if (c == U'\n') return c;
  if (u_isUWhiteSpace(static_cast<UChar32>(c))) return U' ';
  if (quotes.find(c) != quotes.npos) return U'"';
  if (c == U'\u2018' || c == U'\u2019') return U'\'';
  if (hyphens.find(c) != hyphens.npos) return U'-';
  return c;
}

bool ends_sentence(std::u32string_view text, size_t at) {
  const char32_t c = text[at];
  if (c == U'\n' || c == U'。' || c == U'！' || c == U'？') return true;
  if (c != U'.' && c != U'!' && c != U'?') return false;
  // Not inside a number or an address.
  return at + 1 == text.size() || text[at + 1] == U' ' || text[at + 1] == U'\n' ||
         text[at + 1] == U'"' || text[at + 1] == U')' || is_han(text[at + 1]);
}

void add(std::vector<std::u32string_view>& out, std::u32string_view part) {
  const auto filled = [](char32_t c) { return c != U' ' && c != U'\n'; };
  if (std::any_of(part.begin(), part.end(), filled)) out.push_back(part);
}

}  // namespace

std::u32string fold(std::string_view text) {
  std::u32string out;
  for (char32_t c : code_points(text)) {
    c = plain(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
    if (const auto found = variants().to_simplified.find(c);
        found != variants().to_simplified.end())
      c = found->second;
    if (c == U' ' && !out.empty() && out.back() == U' ') continue;
    out.push_back(c);
  }
  return out;
}

std::string encode(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) {
    std::array<char, 4> bytes{};
    int32_t size = 0;
    U8_APPEND_UNSAFE(bytes.data(), size, c);
    out.append(bytes.data(), static_cast<size_t>(size));
  }
  return out;
}

std::string_view without_thought(std::string_view text) {
  const auto start = text.find_first_not_of(" \t\r\n");
  if (start == text.npos || text.substr(start, 7) != "<think>") return text;
  const auto end = text.find("</think>", start);
  return end == text.npos ? std::string_view() : text.substr(end + 8);
}

std::vector<std::u32string_view> sentences(std::u32string_view text) {
  std::vector<std::u32string_view> out;
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!ends_sentence(text, i)) continue;
    while (i + 1 < text.size() && (text[i + 1] == U'"' || text[i + 1] == U')')) ++i;
    add(out, text.substr(start, i + 1 - start));
    start = i + 1;
  }
  add(out, text.substr(start));
  return out;
}

std::vector<std::u32string_view> clauses(std::u32string_view sentence) {
  constexpr std::u32string_view marks = U",;:()，；：（）—";
  std::vector<std::u32string_view> out;
  size_t start = 0;
  for (size_t i = 0; i < sentence.size(); ++i) {
    if (marks.find(sentence[i]) == marks.npos) continue;
    add(out, sentence.substr(start, i - start));
    start = i + 1;
  }
  add(out, sentence.substr(start));
  return out;
}

size_t find_any(std::u32string_view text, Cues cues, size_t from, size_t* length) {
  size_t best = text.npos;
  for (const auto cue : cues) {
    const auto at = text.find(cue, from);
    if (at >= best) continue;
    best = at;
    if (length != nullptr) *length = cue.size();
  }
  return best;
}

bool has_any(std::u32string_view text, Cues cues) { return find_any(text, cues) != text.npos; }

int count_cues(std::u32string_view text, Cues cues) {
  return static_cast<int>(std::count_if(cues.begin(), cues.end(),
                                        [&](auto cue) { return text.find(cue) != text.npos; }));
}

Form form(char32_t c) {
  const auto found = variants().forms.find(c);
  return found == variants().forms.end() ? Form::either : found->second;
}

}  // namespace resurface::detector
