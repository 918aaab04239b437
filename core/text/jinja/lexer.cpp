#include "core/text/jinja/lexer.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/text/jinja/strings.h"
#include "core/text/utf8.h"

namespace resurface::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(const Source& source) : source_(source), text_(source.text()) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) {
      const size_t begin = next_tag();
      if (begin == std::string_view::npos) {
        data(at_, text_.substr(at_));
        break;
      }
      tag(begin);
    }
    add(Token::Type::end, "", text_.size());
    return std::move(tokens_);
  }

 private:
  void add(Token::Type type, std::string text, size_t at) {
    tokens_.push_back({type, std::move(text), at});
  }

  void data(size_t at, std::string_view text) {
    if (!text.empty()) add(Token::Type::data, std::string(text), at);
  }

  bool ahead(std::string_view what) const { return text_.substr(at_).starts_with(what); }

  void skip_space() {
    while (at_ < text_.size()) {
      size_t next = at_;
      if (!is_space(static_cast<char32_t>(next_code_point(text_, next)))) return;
      at_ = next;
    }
  }

  size_t next_tag() const {
    for (size_t i = at_; (i = text_.find('{', i)) != std::string_view::npos; ++i) {
      const char next = i + 1 < text_.size() ? text_[i + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string_view::npos;
  }

  /// The text before a tag at `end`, stripped as its sign says.
  std::string_view before(size_t end, char sign, bool prints) const {
    const auto text = text_.substr(at_, end - at_);
    if (sign == '-') return text.substr(0, strip(text, false, true).size());
    if (sign == '+' || prints) return text;
    const auto newline = text.rfind('\n');
    if (newline == std::string_view::npos && !line_starts_) return text;
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    return strip(text.substr(line), true, true).empty() ? text.substr(0, line) : text;
  }

  char sign_at(size_t at) const {
    const char c = at < text_.size() ? text_[at] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  void tag(size_t begin) {
    const char kind = text_[begin + 1], sign = sign_at(begin + 2);
    data(at_, before(begin, sign, kind == '{'));
    at_ = begin + 2 + (sign ? 1 : 0);
    if (kind == '#') {
      comment(begin);
    } else if (kind == '%' && raw(begin)) {
      return;
    } else {
      add(kind == '{' ? Token::Type::print_begin : Token::Type::block_begin, "", begin);
      inside(begin, kind == '{');
    }
  }

  /// Past the end of a tag: its sign, its two characters, and the white space that it takes along.
  void close(char sign, bool prints) {
    at_ += sign ? 3 : 2;
    const size_t end = at_;
    if (sign == '-') {
      skip_space();
    } else if (!sign && !prints && at_ < text_.size() && text_[at_] == '\n') {
      ++at_;
    }
    line_starts_ = at_ > end && text_[at_ - 1] == '\n';
  }

  void comment(size_t begin) {
    const auto end = text_.find("#}", at_);
    if (at_ == text_.size()) return;
    if (end == std::string_view::npos) source_.fail(begin, "a comment without its end '#}'");
    const char sign = end > at_ ? sign_at(end - 1) : '\0';
    at_ = end - (sign ? 1 : 0);
    close(sign, false);
  }

  /// {% raw %}...{% endraw %}, if that is what begins here.
  bool raw(size_t begin) {
    const size_t start = at_;
    const auto word = [&](std::string_view name) {
      skip_space();
      if (!ahead(name)) return false;
      at_ += name.size();
      skip_space();
      return true;
    };
    if (!word("raw") || !(ahead("%}") || ahead("-%}"))) {
      at_ = start;
      return false;
    }
    const bool strips = ahead("-");
    at_ += strips ? 3 : 2;
    if (strips) skip_space();
    // Jinja takes '{% raw %}' by its own rule, which leaves the newline after it.
    line_starts_ = text_[at_ - 1] == '\n';
    const size_t body = at_;
    for (size_t i = body; (i = text_.find("{%", i)) != std::string_view::npos; ++i) {
      const char sign = sign_at(i + 2);
      at_ = i + 2 + (sign ? 1 : 0);
      if (!word("endraw")) continue;
      const char end_sign = sign_at(at_);
      if (!text_.substr(at_ + (end_sign ? 1 : 0)).starts_with("%}")) continue;
      const size_t resume = at_;
      at_ = body;
      data(body, before(i, sign, false));
      at_ = resume;
      close(end_sign, false);
      return true;
    }
    source_.fail(begin, "'raw' without its 'endraw'");
  }

  /// The tokens of a tag that began at `begin`.
  void inside(size_t begin, bool prints) {
    const std::string_view end = prints ? "}}" : "%}";
    std::string open;
    for (;;) {
      if (at_ >= text_.size()) source_.fail(begin, fmt::format("a tag without its end '{}'", end));
      if (open.empty()) {
        const char sign = sign_at(at_);
        const bool known = sign == '-' || (sign == '+' && !prints);
        if (text_.substr(at_ + (known ? 1 : 0)).starts_with(end)) {
          add(prints ? Token::Type::print_end : Token::Type::block_end, "", at_);
          close(known ? sign : '\0', prints);
          return;
        }
      }
      const size_t before_space = at_;
      skip_space();
      if (at_ == before_space && !number() && !name() && !string()) operation(open);
    }
  }

  /// Digits with single _ between them, from `i` on; `i` moves past them.
  template <class Is>
  bool digits(size_t& i, std::string& out, Is is) const {
    const size_t start = i;
    while (i < text_.size()) {
      const bool joined = text_[i] == '_' && i > start && i + 1 < text_.size() && is(text_[i + 1]);
      if (!joined && !is(text_[i])) break;
      if (!joined) out += text_[i];
      ++i;
    }
    return i > start;
  }

  bool real() {
    if (at_ > 0 && text_[at_ - 1] == '.') return false;
    std::string out;
    size_t i = at_;
    if (!digits(i, out, is_digit)) return false;
    bool is_real = false;
    if (i + 1 < text_.size() && text_[i] == '.' && is_digit(text_[i + 1])) {
      out += text_[i++];
      digits(i, out, is_digit);
      is_real = true;
    }
    if (i < text_.size() && (text_[i] == 'e' || text_[i] == 'E')) {
      std::string exponent = "e";
      size_t j = i + 1;
      if (j < text_.size() && (text_[j] == '+' || text_[j] == '-')) exponent += text_[j++];
      if (digits(j, exponent, is_digit)) {
        out += exponent;
        i = j;
        is_real = true;
      }
    }
    if (!is_real) return false;
    add(Token::Type::real, out, at_);
    at_ = i;
    return true;
  }

  bool number() {
    if (!is_digit(text_[at_])) return false;
    if (real()) return true;
    std::string out;
    size_t i = at_;
    if (text_[i] != '0') {
      digits(i, out, is_digit);
    } else {
      const char base = i + 1 < text_.size() ? static_cast<char>(text_[i + 1] | 0x20) : '\0';
      const auto is = [base](char c) {
        const char l = static_cast<char>(c | 0x20);
        if (base == 'b') return c == '0' || c == '1';
        if (base == 'o') return c >= '0' && c <= '7';
        return is_digit(c) || (l >= 'a' && l <= 'f');
      };
      size_t j = i + 2;
      if (j < text_.size() && text_[j] == '_') ++j;
      out = std::string("0") + base;
      if ((base == 'b' || base == 'o' || base == 'x') && digits(j, out, is)) {
        i = j;
      } else {
        out.clear();
        digits(i, out, [](char c) { return c == '0'; });
      }
    }
    add(Token::Type::integer, out, at_);
    at_ = i;
    return true;
  }

  bool name() {
    size_t i = at_;
    while (i < text_.size()) {
      size_t next = i;
      const auto c = next_code_point(text_, next);
      const bool fits = i == at_ ? c == '_' || u_hasBinaryProperty(c, UCHAR_XID_START)
                                 : u_hasBinaryProperty(c, UCHAR_XID_CONTINUE);
      if (!fits) break;
      i = next;
    }
    if (i == at_) return false;
    add(Token::Type::name, std::string(text_.substr(at_, i - at_)), at_);
    at_ = i;
    return true;
  }

  bool string() {
    const char quote = text_[at_];
    if (quote != '\'' && quote != '"') return false;
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) source_.fail(at_, "a string without its end");
    add(Token::Type::string, unescaped(at_ + 1, end), at_);
    at_ = end + 1;
    return true;
  }

  /// Python's escapes; one that it does not know stays as it is.
  std::string unescaped(size_t i, size_t end) const {
    static constexpr std::string_view letters = "abfnrtv\\'\"";
    static constexpr std::string_view meant = "\a\b\f\n\r\t\v\\'\"";
    std::string out;
    while (i < end) {
      const char c = text_[i++];
      if (c != '\\') {
        out += c;
        continue;
      }
      const char e = text_[i];
      if (const auto simple = letters.find(e); simple != std::string_view::npos) {
        out += meant[simple];
        ++i;
      } else if (e == '\n') {
        ++i;
      } else if (e >= '0' && e <= '7') {
        uint32_t point = 0;
        for (int n = 0; n < 3 && i < end && text_[i] >= '0' && text_[i] <= '7'; ++n)
          point = point * 8 + static_cast<uint32_t>(text_[i++] - '0');
        append_code_point(out, static_cast<int32_t>(point));
      } else if (e == 'x' || e == 'u' || e == 'U') {
        hexadecimal(i, end, e == 'x' ? 2 : e == 'u' ? 4 : 8, out);
      } else if (e == 'N') {
        source_.fail(i - 1, "characters by name (\\N) are not known");
      } else if (static_cast<uint8_t>(e) < 0x80) {
        out += '\\';
      } else {
        // Jinja escapes the character before it looks at the backslash, which then escapes that.
        const auto point = static_cast<uint32_t>(next_code_point(text_, i));
        out += point < 0x100     ? fmt::format("\\x{:02x}", point)
               : point < 0x10000 ? fmt::format("\\u{:04x}", point)
                                 : fmt::format("\\U{:08x}", point);
      }
    }
    return out;
  }

  void hexadecimal(size_t& i, size_t end, size_t count, std::string& out) const {
    uint32_t point = 0;
    const size_t start = i - 1;
    for (size_t n = 1; n <= count; ++n) {
      if (i + n >= end || !std::isxdigit(static_cast<uint8_t>(text_[i + n]))) {
        source_.fail(start, fmt::format("'\\{}' needs {} hexadecimal digits", text_[i], count));
      }
      const char d = text_[i + n];
      point = point * 16 + static_cast<uint32_t>(is_digit(d) ? d - '0' : (d | 0x20) - 'a' + 10);
    }
    if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
      source_.fail(start, "this escape is no character");
    }
    append_code_point(out, static_cast<int32_t>(point));
    i += count + 1;
  }

  void operation(std::string& open) {
    static constexpr std::array<std::string_view, 6> pairs = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view singles = "+-/*%~[](){}><=.:|,;";
    const auto two = text_.substr(at_, 2);
    const bool is_pair = std::find(pairs.begin(), pairs.end(), two) != pairs.end();
    const char c = text_[at_];
    if (!is_pair && singles.find(c) == std::string_view::npos) {
      size_t next = at_;
      next_code_point(text_, next);
      source_.fail(at_, fmt::format("unexpected character '{}'", text_.substr(at_, next - at_)));
    }
    if (c == '{' || c == '(' || c == '[') {
      open += c == '{' ? '}' : c == '(' ? ')' : ']';
    } else if (c == '}' || c == ')' || c == ']') {
      if (open.empty() || open.back() != c) source_.fail(at_, fmt::format("unexpected '{}'", c));
      open.pop_back();
    }
    add(Token::Type::op, std::string(is_pair ? two : two.substr(0, 1)), at_);
    at_ += is_pair ? 2 : 1;
  }

  const Source& source_;
  std::string_view text_;
  size_t at_ = 0;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

std::string with_unix_lines(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    result += text[i] == '\r' ? '\n' : text[i];
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

}  // namespace

Source::Source(const std::string& text, std::string name, const Limits& limits)
    : text_(with_unix_lines(text)), name_(std::move(name)) {
  if (text_.size() > static_cast<size_t>(limits.source)) {
    throw Error(fmt::format("{}: a template of {} bytes; at most {} are read", name_, text_.size(),
                            limits.source));
  }
  if (const auto at = invalid_utf8(text_); at != std::string::npos) {
    throw Error(fmt::format("{}: the template is not valid UTF-8 (byte {})", name_, at));
  }
}

void Source::fail(size_t at, std::string_view message) const {
  constexpr size_t around = 100;
  at = std::min(at, text_.size());
  const auto line = 1 + std::count(text_.begin(), text_.begin() + static_cast<int64_t>(at), '\n');
  size_t begin = text_.rfind('\n', at == 0 ? 0 : at - 1);
  begin = begin == std::string::npos || at == 0 ? 0 : begin + 1;
  size_t end = std::min(text_.find('\n', at), text_.size());
  const bool cut_left = at - begin > around, cut_right = end - at > around;
  if (cut_left) begin = at - around;
  if (cut_right) end = at + around;
  const auto inside = [&](size_t i) { return i < text_.size() && (text_[i] & 0xC0) == 0x80; };
  while (inside(begin)) ++begin;
  while (inside(end)) ++end;
  throw Error(fmt::format("{}, line {}: {}\n    {}{}{}", name_, line, message,
                          cut_left ? "..." : "", text_.substr(begin, end - begin),
                          cut_right ? "..." : ""));
}

std::vector<Token> tokenize(const Source& source) { return Lexer(source).run(); }

}  // namespace resurface::jinja
