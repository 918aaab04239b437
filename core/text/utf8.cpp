#include "core/text/utf8.h"

#include <unicode/utf8.h>

namespace resurface {
namespace {

bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// The code point of each byte.
std::array<int32_t, 256> alphabet_code_points() {
  std::array<int32_t, 256> points{};
  int32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) points[byte] = stands_for_itself(byte) ? byte : next++;
  return points;
}

}  // namespace

size_t invalid_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t i = 0; i < size;) {
    if (bytes[i] < 0x80) {
      ++i;
      continue;
    }
    const auto start = i;
    UChar32 c;
    U8_NEXT(bytes, i, size, c);
    if (c < 0) return static_cast<size_t>(start);
  }
  return std::string_view::npos;
}

std::string utf8_lossy(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int64_t>(text.size());
  std::string out;
  out.reserve(text.size());
  for (int64_t i = 0; i < size;) {
    const auto start = i;
    UChar32 c;
    U8_NEXT(bytes, i, size, c);
    if (c < 0) {
      out += "\xEF\xBF\xBD";
    } else {
      out.append(text.substr(static_cast<size_t>(start), static_cast<size_t>(i - start)));
    }
  }
  return out;
}

int32_t next_code_point(std::string_view text, size_t& position) {
  UChar32 c;
  U8_NEXT_UNSAFE(text.data(), position, c);
  return c;
}

size_t character_before(std::string_view text, size_t position) {
  U8_BACK_1(reinterpret_cast<const uint8_t*>(text.data()), 0, position);
  return position;
}

void append_code_point(std::string& text, int32_t code_point) {
  std::array<char, 4> buffer{};
  size_t length = 0;
  U8_APPEND_UNSAFE(buffer.data(), length, code_point);
  text.append(buffer.data(), length);
}

std::array<std::string, 256> byte_alphabet() {
  std::array<std::string, 256> alphabet;
  const auto points = alphabet_code_points();
  for (int byte = 0; byte < 256; ++byte) append_code_point(alphabet[byte], points[byte]);
  return alphabet;
}

std::optional<std::string> bytes_of_alphabet(std::string_view text) {
  // The largest code point of the alphabet is U+0143: 68 bytes do not stand for themselves.
  static const auto byte_of = [] {
    std::array<int16_t, 0x144> table{};
    table.fill(-1);
    const auto points = alphabet_code_points();
    for (int byte = 0; byte < 256; ++byte) table[points[byte]] = static_cast<int16_t>(byte);
    return table;
  }();
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<size_t>(next_code_point(text, i));
    if (c >= byte_of.size() || byte_of[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte_of[c]));
  }
  return bytes;
}

}  // namespace resurface
