// What characters are, as `tokenizers` 0.22 sees them: some of its tables are of Unicode 8 or 9,
// and characters assigned later are nothing special to it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace resurface {

bool is_white_space(int32_t c);
/// \w of Unicode's regex standard (UTS 18, annex C).
bool is_word(int32_t c);
/// Categories Nd, Nl, No.
bool is_numeric(int32_t c);
/// ASCII punctuation and category P of Unicode 8.
bool is_punctuation(int32_t c);
/// Categories Cc, Cf, Co of Unicode 8; not unassigned.
bool is_control_like(int32_t c);
/// Category Mn of Unicode 8.
bool is_nonspacing_mark(int32_t c);
/// Category M of Unicode 9.
bool is_combining_mark(int32_t c);
/// Blocks of Chinese characters as BERT counts them.
bool is_chinese(int32_t c);
/// A number for each script of Unicode 9, with Hiragana and Katakana as Han; any_script for the
/// space and for what has none (SentencePiece's rule).
int script_of(int32_t c);
inline constexpr int any_script = -1;

/// Not assigned in Unicode `version`.0 yet.
bool newer_than(int32_t c, int version);

/// A character of a rewritten text. change: 0 stands for the next old character, -n for it and
/// the n old characters after it, 1 for none (it was inserted).
struct Change {
  int32_t character;
  int change;
};

/// Normal forms with Unicode 9's data.
enum class NormalForm { nfc, nfd, nfkc, nfkd };
bool is_normalized(std::string_view text, NormalForm form);
std::vector<Change> normalize(std::string_view text, NormalForm form);

}  // namespace resurface
