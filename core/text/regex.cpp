#include "core/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/run/error.h"

namespace resurface {
namespace {

constexpr std::string_view word_class = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// Oniguruma's syntax to PCRE2's.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        out_ += read_class(0).expression();
        after_interval_ = false;
      } else if (c == '(' && peek(1) == '?') {
        group();
      } else {
        if (c == '+' && at_ > 0 && in_[at_ - 1] == '}' && after_interval_)
          refuse("an interval with +");
        after_interval_ = c == '}';
        take(1);
      }
    }
    return out_;
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void take(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }
  void replace(size_t count, std::string_view by) {
    out_ += by;
    at_ += count;
  }
  [[noreturn]] void refuse(std::string_view what) const {
    fail("{}: regex '{}': {} is not implemented", where_, in_, what);
  }

  /// A class in brackets: the members, or (after &&) classes that all must hold.
  struct Class {
    bool negated = false;
    std::string members;
    std::vector<std::string> all;

    std::string expression() const {
      if (all.empty()) return (negated ? "[^" : "[") + members + "]";
      std::string text = "(?:";
      for (size_t i = 1; i < all.size(); ++i) text += "(?=" + all[i] + ")";
      return text + all[0] + ")";
    }
  };

  Class read_class(int depth) {
    if (depth > 8) refuse("a class nested this deep");
    Class result;
    std::string members, whole;  // `whole`: a negated class that stands alone
    const auto finish = [&] { return whole.empty() ? "[" + members + "]" : whole; };
    ++at_;
    result.negated = peek() == '^';
    if (result.negated) ++at_;
    if (peek() == ']') {
      members = "\\]";
      ++at_;
    }
    for (;;) {
      if (at_ >= in_.size()) refuse("a class without end");
      const char c = in_[at_];
      if (c == ']') break;
      if (c == '[') {
        if (peek(1) == ':') refuse("a POSIX class");
        const auto inner = read_class(depth + 1);
        if (inner.negated || !inner.all.empty()) {
          if (!members.empty()) refuse("a negated class within a class");
          whole = inner.expression();
        } else {
          members += inner.members;
        }
      } else if (c == '&' && peek(1) == '&') {
        if (result.negated) refuse("'&&' in a negated class");
        result.all.push_back(finish());
        members.clear();
        whole.clear();
        at_ += 2;
      } else if (c == '\\') {
        const auto before = out_.size();
        in_class_ = true;
        escape();
        in_class_ = false;
        members += out_.substr(before);
        out_.resize(before);
      } else {
        members += c;
        ++at_;
      }
      if (!whole.empty()) check_alone();
    }
    ++at_;
    if (!result.all.empty() || !whole.empty()) {
      if (result.negated) refuse("a negated class within a class");
      result.all.push_back(finish());
    }
    result.members = members;
    return result;
  }

  /// After a class that cannot be joined with other members.
  void check_alone() const {
    if (peek() != ']' && !(peek() == '&' && peek(1) == '&')) {
      refuse("a negated class within a class");
    }
  }

  void group() {
    const auto rest = in_.substr(at_ + 2);
    for (const std::string_view known :
         {":", "=", "!", ">", "<=", "<!", "i:", "i)", "-i:", "-i)"}) {
      if (rest.starts_with(known)) return take(2 + known.size());
    }
    if (rest.starts_with("m:"))
      return replace(4, "(?s:");  // Oniguruma's m is "dot matches newline"
    refuse(fmt::format("the group '(?{}'", rest.substr(0, 2)));
  }

  void escape() {
    const char c = peek(1);
    after_interval_ = false;
    const auto word = std::string(word_class);
    switch (c) {
      case 's':
        return replace(2, R"(\p{White_Space})");
      case 'S':
        return replace(2, R"(\P{White_Space})");
      case 'w':
        return replace(2, in_class_ ? word : "[" + word + "]");
      case 'W':
        if (in_class_) refuse("'\\W' in a class");
        return replace(2, "[^" + word + "]");
      case 'b':
        if (in_class_) return take(2);
        return replace(2, fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", word));
      case 'v':
        return replace(2, R"(\x0B)");
      case 'p':
      case 'P': {
        const auto close = in_.find('}', at_);
        if (peek(2) != '{' || close == std::string_view::npos) refuse("'\\p' without {name}");
        return take(close + 1 - at_);
      }
      case 'u':
        if (in_.size() < at_ + 6) refuse("'\\u' without four digits");
        return replace(6, fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4)));
      case 'x':
        if (peek(2) != '{' && !(peek(2) >= '0' && peek(2) <= '7')) refuse("a single byte above 7F");
        return take(2);
      case '\0':
        refuse("a lone backslash at the end");
      default:
        break;
    }
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (letter && std::string_view("dDnrtfaeAzZ0").find(c) == std::string_view::npos) {
      refuse(fmt::format("'\\{}'", c));
    }
    take(2);
  }

  std::string_view in_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false, after_interval_ = false;
};

}  // namespace

Regex::Regex(const std::string& pattern, const std::string& where) {
  const auto translated = Translator(pattern, where).run();
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  if (code == nullptr) {
    fail("{}: regex '{}': {} (at '{}')", where, pattern, message_of(error),
         translated.substr(std::min(offset, translated.size())));
  }
  code_ =
      std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  // Without a JIT compiler on this machine the interpreter gives the same matches, slower.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
}

std::vector<Span> Regex::find_all(std::string_view text) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto* found = pcre2_get_ovector_pointer(match.get());
  std::vector<Span> spans;
  size_t from = 0;
  while (from <= text.size()) {
    int rc =
        pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       match.get(), nullptr);
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0)
      fail("the tokenizer's regex failed on a text of {} bytes: {}", text.size(), message_of(rc));
    const Span span{found[0], found[1]};
    if (span.size() == 0 && !spans.empty() && spans.back().end == span.end) {
      ++from;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
      continue;
    }
    spans.push_back(span);
    from = span.end;
  }
  return spans;
}

}  // namespace resurface
