// Degeneration. Bigram diversity is distinct-2 of Li et al. 2016 ("A diversity-promoting objective
// function", section 5); a loop is a run that repeats with one period, at least three rounds of it.
#include <unicode/uchar.h>
#include <unicode/uscript.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "eval/detectors/detectors.h"
#include "eval/detectors/text.h"

namespace resurface {
namespace {

using namespace detector;

constexpr size_t kFewUnits = 12;  // too short for shares of units to mean anything
constexpr size_t kLongestPeriod = 200;
constexpr double kLoop = 0.4;
constexpr double kDistinct = 0.5;
constexpr double kStutter = 0.2;
constexpr double kNonLetters = 0.6;
constexpr size_t kFewCharacters = 20;  // "42.195" is an answer
constexpr double kReplacement = 0.02;
constexpr int kScripts = 4;

int script_of(char32_t c) {
  UErrorCode error = U_ZERO_ERROR;
  const auto script = uscript_getScript(static_cast<UChar32>(c), &error);
  if (script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA) return USCRIPT_HAN;
  return script;
}

bool is_letter(char32_t c) { return u_isalpha(static_cast<UChar32>(c)) != 0; }

/// Written without spaces between words.
bool stands_alone(char32_t c) {
  const int script = script_of(c);
  return script == USCRIPT_HAN || script == USCRIPT_THAI;
}

std::vector<std::u32string> units(std::u32string_view text) {
  std::vector<std::u32string> out;
  bool in_word = false;
  for (const char32_t c : text) {
    const bool letter = is_letter(c);
    const bool word = letter && !stands_alone(c);
    if (letter) {
      if (!word || !in_word) out.emplace_back();
      out.back().push_back(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
    }
    in_word = word;
  }
  return out;
}

double distinct_bigrams(const std::vector<std::u32string>& units) {
  if (units.size() < 2) return 1;
  std::set<std::pair<std::u32string, std::u32string>> seen;
  for (size_t i = 1; i < units.size(); ++i) seen.emplace(units[i - 1], units[i]);
  return static_cast<double>(seen.size()) / static_cast<double>(units.size() - 1);
}

/// Length of the longest run with u[i] = u[i + period] over at least three periods.
size_t longest_loop(const std::vector<std::u32string>& units) {
  size_t best = 0;
  for (size_t period = 1; period <= std::min(kLongestPeriod, units.size() / 3); ++period) {
    size_t run = 0;
    for (size_t i = period; i < units.size(); ++i) {
      run = units[i] == units[i - period] ? run + 1 : 0;
      if (run >= 2 * period) best = std::max(best, run + period);
    }
  }
  return best;
}

double share(size_t part, size_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

void measure_characters(std::u32string_view text, Degeneration& out) {
  size_t filled = 0, non_letters = 0, replaced = 0;
  std::set<int> scripts;
  for (const char32_t c : text) {
    if (u_isUWhiteSpace(static_cast<UChar32>(c))) continue;
    ++filled;
    replaced += c == U'\uFFFD';
    if (is_letter(c)) {
      // Letters that all scripts share, such as mathematical ones, name no script.
      if (const int script = script_of(c); script > USCRIPT_INHERITED) scripts.insert(script);
    } else {
      ++non_letters;
    }
  }
  out.empty = filled == 0;
  out.replacement_share = share(replaced, filled);
  out.non_letter_share = share(non_letters, filled);
  out.scripts = static_cast<int>(scripts.size());
  out.degenerate = out.empty || out.replacement_share > kReplacement || out.scripts >= kScripts ||
                   (filled >= kFewCharacters && out.non_letter_share > kNonLetters);
}

void measure_units(std::u32string_view text, Degeneration& out) {
  const auto list = units(text);
  size_t stutters = 0;
  for (size_t i = 1; i < list.size(); ++i) stutters += list[i] == list[i - 1];
  out.stutter_share = share(stutters, list.size());
  out.distinct_bigrams = distinct_bigrams(list);
  out.loop_share = share(longest_loop(list), list.size());
  if (list.size() < kFewUnits) return;
  out.degenerate = out.degenerate || out.loop_share > kLoop || out.stutter_share > kStutter ||
                   out.distinct_bigrams < kDistinct;
}

}  // namespace

Degeneration degeneration(std::string_view reply) {
  const auto text = code_points(without_thought(reply));
  Degeneration out;
  measure_characters(text, out);
  measure_units(text, out);
  return out;
}

}  // namespace resurface
