// Porter 1980, "An algorithm for suffix stripping", steps 1a to 5b, with the changes of NLTK's
// PorterStemmer in its default mode, which `rouge-score` uses: a few irregular forms; ies and ied
// of four-letter words become ie; y -> i only after a consonant that is not the word's first
// letter; alli -> al and once more; bli -> ble instead of abli -> able; fulli, logi; a stem
// vowel-consonant of two letters counts as cvc.
#include "eval/field/porter.h"

#include <unicode/uchar.h>

#include <array>

#include "core/text/utf8.h"
#include "eval/characters.h"

namespace resurface {
namespace {

bool consonant(std::string_view word, size_t at) {
  const char c = word[at];
  if (c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u') return false;
  return c != 'y' || at == 0 || !consonant(word, at - 1);
}

/// m of [C](VC){m}[V].
int measure(std::string_view stem) {
  int m = 0;
  bool before = true;  // the letter before is a consonant
  for (size_t i = 0; i < stem.size(); ++i) {
    const char c = stem[i];
    const bool vowel = c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
    const bool now = c == 'y' ? (i == 0 || !before) : !vowel;
    if (now && i > 0 && !before) ++m;
    before = now;
  }
  return m;
}

bool has_vowel(std::string_view stem) {
  for (size_t i = 0; i < stem.size(); ++i) {
    if (!consonant(stem, i)) return true;
  }
  return false;
}

bool ends_cvc(std::string_view word) {
  const size_t n = word.size();
  if (n == 2) return !consonant(word, 0) && consonant(word, 1);
  return n >= 3 && consonant(word, n - 3) && !consonant(word, n - 2) && consonant(word, n - 1) &&
         word[n - 1] != 'w' && word[n - 1] != 'x' && word[n - 1] != 'y';
}

struct Rule {
  std::string_view suffix, replacement;
};

/// The first rule whose suffix the word has; it changes the word when the stem's measure exceeds
/// `above`. No later rule is tried.
void replace_first(std::string& word, std::span<const Rule> rules, int above) {
  for (const auto& [suffix, replacement] : rules) {
    if (!word.ends_with(suffix)) continue;
    const auto stem = std::string_view(word).substr(0, word.size() - suffix.size());
    if (measure(stem) > above) word = std::string(stem).append(replacement);
    return;
  }
}

void drop(std::string& word, size_t letters) {
  while (letters-- > 0) word.pop_back();
}

void step1a(std::string& word) {
  if (word.ends_with("ies")) {
    drop(word, word.size() == 4 ? 1 : 2);
  } else if (word.ends_with("sses")) {
    drop(word, 2);
  } else if (word.ends_with("s") && !word.ends_with("ss")) {
    word.pop_back();
  }
}

void step1b(std::string& word) {
  if (word.ends_with("ied")) {
    drop(word, word.size() == 4 ? 1 : 2);
    return;
  }
  if (word.ends_with("eed")) {
    if (measure(std::string_view(word).substr(0, word.size() - 3)) > 0) word.pop_back();
    return;
  }
  const size_t cut = word.ends_with("ed") ? 2 : word.ends_with("ing") ? 3 : 0;
  if (cut == 0 || !has_vowel(std::string_view(word).substr(0, word.size() - cut))) return;
  drop(word, cut);
  const size_t n = word.size();
  // NOLINTNEXTLINE(bugprone-branch-clone): the paper's rules, a branch each
  if (word.ends_with("at") || word.ends_with("bl") || word.ends_with("iz")) {
    word += 'e';
  } else if (n >= 2 && word[n - 1] == word[n - 2] && consonant(word, n - 1)) {
    if (word[n - 1] != 'l' && word[n - 1] != 's' && word[n - 1] != 'z') word.pop_back();
  } else if (measure(word) == 1 && ends_cvc(word)) {
    word += 'e';
  }
}

void step1c(std::string& word) {
  const size_t n = word.size();
  if (n > 2 && word[n - 1] == 'y' && consonant(word, n - 2)) word.back() = 'i';
}

void step2(std::string& word) {
  static constexpr std::array<Rule, 20> kRules = {
      {{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},
       {"izer", "ize"},    {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"},
       {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
       {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"},
       {"ousness", "ous"}, {"aliti", "al"},    {"iviti", "ive"},   {"biliti", "ble"}}};
  while (word.ends_with("alli") && measure(std::string_view(word).substr(0, word.size() - 4)) > 0) {
    drop(word, 2);
  }
  if (word.ends_with("fulli")) {
    replace_first(word, std::array{Rule{"fulli", "ful"}}, 0);
  } else if (word.ends_with("logi")) {
    // The measure is of the word without "ogi": its l counts.
    if (measure(std::string_view(word).substr(0, word.size() - 3)) > 0) word.pop_back();
  } else {
    replace_first(word, kRules, 0);
  }
}

void step3(std::string& word) {
  static constexpr std::array<Rule, 7> kRules = {{{"icate", "ic"},
                                                  {"ative", ""},
                                                  {"alize", "al"},
                                                  {"iciti", "ic"},
                                                  {"ical", "ic"},
                                                  {"ful", ""},
                                                  {"ness", ""}}};
  replace_first(word, kRules, 0);
}

void step4(std::string& word) {
  static constexpr std::array<Rule, 18> kRules = {{{"al", ""},
                                                   {"ance", ""},
                                                   {"ence", ""},
                                                   {"er", ""},
                                                   {"ic", ""},
                                                   {"able", ""},
                                                   {"ible", ""},
                                                   {"ant", ""},
                                                   {"ement", ""},
                                                   {"ment", ""},
                                                   {"ent", ""},
                                                   {"ou", ""},
                                                   {"ism", ""},
                                                   {"ate", ""},
                                                   {"iti", ""},
                                                   {"ous", ""},
                                                   {"ive", ""},
                                                   {"ize", ""}}};
  if (word.ends_with("ion")) {
    // The measure is of the word without "ion": its s or t counts.
    const auto stem = std::string_view(word).substr(0, word.size() - 3);
    if (measure(stem) > 1 && (stem.ends_with('s') || stem.ends_with('t'))) drop(word, 3);
  } else {
    replace_first(word, kRules, 1);
  }
}

void step5(std::string& word) {
  if (word.ends_with("e")) {
    const auto stem = std::string_view(word).substr(0, word.size() - 1);
    const int m = measure(stem);
    if (m > 1 || (m == 1 && !ends_cvc(stem))) word.pop_back();
  }
  if (word.ends_with("ll") && measure(std::string_view(word).substr(0, word.size() - 1)) > 1) {
    word.pop_back();
  }
}

}  // namespace

std::string porter_stem(std::string word) {
  static constexpr std::array<Rule, 16> kIrregular = {{{"sky", "sky"},
                                                       {"skies", "sky"},
                                                       {"dying", "die"},
                                                       {"lying", "lie"},
                                                       {"tying", "tie"},
                                                       {"news", "news"},
                                                       {"innings", "inning"},
                                                       {"inning", "inning"},
                                                       {"outings", "outing"},
                                                       {"outing", "outing"},
                                                       {"cannings", "canning"},
                                                       {"canning", "canning"},
                                                       {"howe", "howe"},
                                                       {"proceed", "proceed"},
                                                       {"exceed", "exceed"},
                                                       {"succeed", "succeed"}}};
  for (const auto& [form, stem] : kIrregular) {
    if (word == form) return std::string(stem);
  }
  if (word.size() <= 2) return word;
  for (const auto step : {step1a, step1b, step1c, step2, step3, step4, step5}) step(word);
  return word;
}

std::string stemmed(std::string_view text) {
  std::string out, word;
  const auto flush = [&] {
    out += word.size() > 3 ? porter_stem(word) : word;
    word.clear();
  };
  for (const char32_t c : code_points(text)) {
    const auto lower = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
    if ((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9')) {
      word += static_cast<char>(lower);
      continue;
    }
    flush();
    append_code_point(out, static_cast<int32_t>(lower));
  }
  flush();
  return out;
}

}  // namespace resurface
