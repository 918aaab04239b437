#include "core/text/jinja/strings.h"

#include <fmt/format.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cstring>

#include "core/text/utf8.h"

namespace resurface::jinja {
namespace {

bool printable(char32_t c) {
  switch (u_charType(static_cast<UChar32>(c))) {
    case U_UNASSIGNED:
    case U_CONTROL_CHAR:
    case U_FORMAT_CHAR:
    case U_PRIVATE_USE_CHAR:
    case U_SURROGATE:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
      return false;
    case U_SPACE_SEPARATOR:
      return c == U' ';
    default:
      return true;
  }
}

bool ends_line(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

template <class Convert>
std::string converted(std::string_view text, Convert convert) {
  auto wide = icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  convert(wide);
  std::string result;
  wide.toUTF8String(result);
  return result;
}

}  // namespace

Characters characters(std::string_view text) {
  Characters result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();)
    result.push_back(static_cast<char32_t>(next_code_point(text, i)));
  return result;
}

std::string utf8(const Characters& text) {
  std::string result;
  for (const char32_t c : text) append_code_point(result, static_cast<int32_t>(c));
  return result;
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string strip(std::string_view text, bool left, bool right, const std::string* set) {
  auto unwanted = set ? characters(*set) : Characters();
  std::sort(unwanted.begin(), unwanted.end());
  const auto goes = [&](char32_t c) {
    return set ? std::binary_search(unwanted.begin(), unwanted.end(), c) : is_space(c);
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    size_t next = begin;
    if (!goes(static_cast<char32_t>(next_code_point(text, next)))) break;
    begin = next;
  }
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (text[last] & 0xC0) == 0x80) --last;
    size_t position = last;
    if (!goes(static_cast<char32_t>(next_code_point(text, position)))) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const auto c = static_cast<char32_t>(next_code_point(text, i));
    if (!ends_line(c)) continue;
    if (c == U'\r' && i < text.size() && text[i] == '\n') ++i;
    lines.emplace_back(text.substr(begin, (keep_ends ? i : at) - begin));
    begin = i;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::vector<std::string> split_words(std::string_view text, int64_t most, bool from_right) {
  // From the right is from the left in the mirror.
  auto all = characters(text);
  if (from_right) std::reverse(all.begin(), all.end());
  std::vector<std::string> parts;
  const auto add = [&](Characters part) {
    if (from_right) std::reverse(part.begin(), part.end());
    parts.push_back(utf8(part));
  };
  for (auto at = all.begin();;) {
    at = std::find_if_not(at, all.end(), is_space);
    if (at == all.end()) break;
    if (most >= 0 && std::ssize(parts) >= most) {
      add({at, all.end()});
      break;
    }
    const auto end = std::find_if(at, all.end(), is_space);
    add({at, end});
    at = end;
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_at(std::string_view text, std::string_view separator, int64_t most,
                                  bool from_right) {
  std::vector<std::string> parts;
  if (!from_right) {
    size_t begin = 0;
    while (most < 0 || std::ssize(parts) < most) {
      const auto at = find_text(text, separator, begin);
      if (at == std::string_view::npos) break;
      parts.emplace_back(text.substr(begin, at - begin));
      begin = at + separator.size();
    }
    parts.emplace_back(text.substr(begin));
    return parts;
  }
  // From the right is from the left in the mirror.
  const std::string mirrored(text.rbegin(), text.rend());
  parts = split_at(mirrored, std::string(separator.rbegin(), separator.rend()), most, false);
  for (auto& part : parts) std::reverse(part.begin(), part.end());
  std::reverse(parts.begin(), parts.end());
  return parts;
}

size_t find_last(std::string_view text, std::string_view part) {
  const std::string mirrored(text.rbegin(), text.rend());
  const auto at = find_text(mirrored, std::string(part.rbegin(), part.rend()));
  return at == std::string::npos ? at : text.size() - at - part.size();
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data())
               : std::string_view::npos;
}

std::string upper(std::string_view text) {
  return converted(text, [](auto& wide) { wide.toUpper(icu::Locale::getRoot()); });
}

std::string lower(std::string_view text) {
  return converted(text, [](auto& wide) { wide.toLower(icu::Locale::getRoot()); });
}

std::string title(std::string_view text) {
  std::string result;
  bool inside = false;
  for (const char32_t c : characters(text)) {
    const auto point = static_cast<UChar32>(c);
    append_code_point(result, inside ? u_tolower(point) : u_totitle(point));
    inside = u_hasBinaryProperty(point, UCHAR_CASED);
  }
  return result;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  size_t next = 0;
  std::string result;
  append_code_point(result, u_totitle(next_code_point(text, next)));
  return result + lower(text.substr(next));
}

std::string quoted(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos;
  const char quote = single || text.find('"') != std::string_view::npos ? '\'' : '"';
  std::string result(1, quote);
  for (const char32_t c : characters(text)) {
    if (c == static_cast<char32_t>(quote) || c == U'\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c == U'\n') {
      result += "\\n";
    } else if (c == U'\r') {
      result += "\\r";
    } else if (c == U'\t') {
      result += "\\t";
    } else if (printable(c)) {
      append_code_point(result, static_cast<int32_t>(c));
    } else if (c < 0x100) {
      result += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      result += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      result += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  return result + quote;
}

std::string json_quoted(std::string_view text, bool ascii) {
  std::string result = "\"";
  for (const char32_t c : characters(text)) {
    switch (c) {
      case U'"':
        result += "\\\"";
        break;
      case U'\\':
        result += "\\\\";
        break;
      case U'\n':
        result += "\\n";
        break;
      case U'\r':
        result += "\\r";
        break;
      case U'\t':
        result += "\\t";
        break;
      case U'\b':
        result += "\\b";
        break;
      case U'\f':
        result += "\\f";
        break;
      default:
        if (c < 0x20 || (ascii && c >= 0x7F && c < 0x10000)) {
          result += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
        } else if (ascii && c >= 0x10000) {
          const auto rest = static_cast<uint32_t>(c) - 0x10000;
          result +=
              fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
        } else {
          append_code_point(result, static_cast<int32_t>(c));
        }
    }
  }
  return result + '"';
}

std::string html_escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '"':
        result += "&#34;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace resurface::jinja
