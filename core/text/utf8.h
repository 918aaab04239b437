// UTF-8 and GPT-2's byte alphabet: each byte written as one printable character.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace resurface {

/// Position of the first byte that is not valid UTF-8, or npos.
size_t invalid_utf8(std::string_view text);

/// Each maximal invalid part becomes U+FFFD (Unicode 3.9, as Rust's from_utf8_lossy).
std::string utf8_lossy(std::string_view bytes);

/// Decodes the code point at `position` of valid UTF-8 and moves past it.
int32_t next_code_point(std::string_view text, size_t& position);
/// Where the character that ends at `position` (> 0) of valid UTF-8 begins.
size_t character_before(std::string_view text, size_t position);
void append_code_point(std::string& text, int32_t code_point);

/// A byte written in the alphabet: printable Latin-1 stands for itself, the rest follow from U+0100
/// on.
std::array<std::string, 256> byte_alphabet();

/// Back from the alphabet; none when a character is not in it.
std::optional<std::string> bytes_of_alphabet(std::string_view text);

}  // namespace resurface
