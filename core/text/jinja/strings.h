// Python's str: what it calls a character, white space, a line; its repr and its escapes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace resurface::jinja {

using Characters = std::u32string;

Characters characters(std::string_view utf8);
std::string utf8(const Characters& text);
size_t count_characters(std::string_view utf8);

bool is_space(char32_t c);
/// Without white space (or the characters of `set`, when it is given) at the ends asked for.
std::string strip(std::string_view text, bool left, bool right, const std::string* set = nullptr);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends = false);
/// str.split() at white space; at most `most` cuts, from the right if asked.
std::vector<std::string> split_words(std::string_view text, int64_t most, bool from_right);
std::vector<std::string> split_at(std::string_view text, std::string_view separator, int64_t most,
                                  bool from_right);
/// The first and the last place in linear time; npos when it is nowhere.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);
size_t find_last(std::string_view text, std::string_view part);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);       ///< str.title()
std::string capitalize(std::string_view text);  ///< str.capitalize()

std::string quoted(std::string_view text);  ///< repr
std::string json_quoted(std::string_view text, bool ascii);
std::string html_escaped(std::string_view text);

}  // namespace resurface::jinja
