// Text as the detectors see it.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/characters.h"

namespace resurface::detector {

/// One spelling for matching: lower case, traditional characters in simplified form, one kind of
/// quotation mark, apostrophe and hyphen, single spaces.
std::u32string fold(std::string_view text);

std::string encode(std::u32string_view text);

/// Without the thought trace. One that was never closed goes up to the end.
std::string_view without_thought(std::string_view text);

/// Cut after . ! ? (before a space) and 。！？, and at line breaks; quotation marks close with
/// their sentence. Blank ones are left out.
std::vector<std::u32string_view> sentences(std::u32string_view folded);

/// Cut further at commas, semicolons, colons and brackets.
std::vector<std::u32string_view> clauses(std::u32string_view sentence);

using Cues = std::initializer_list<std::u32string_view>;

/// First place of any cue at or after `from`; npos when none. Where `length` is given it receives
/// the cue's length.
size_t find_any(std::u32string_view text, Cues cues, size_t from = 0, size_t* length = nullptr);
bool has_any(std::u32string_view text, Cues cues);
/// How many of the cues occur.
int count_cues(std::u32string_view text, Cues cues);

enum class Form { either, simplified, traditional };
/// Whether only simplified or only traditional text writes a character so.
Form form(char32_t c);

}  // namespace resurface::detector
