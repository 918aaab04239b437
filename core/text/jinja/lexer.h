// A template's tokens, cut as jinja2/lexer.py does with trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja/meter.h"

namespace resurface::jinja {

/// A template's text and what it is called in errors.
class Source {
 public:
  /// Line ends become \n, and one at the end goes, as in Jinja. Throws Error for invalid UTF-8.
  Source(const std::string& text, std::string name, const Limits& limits);
  const std::string& text() const { return text_; }
  /// Throws Error with the place, the message and the line (of a long one, what is around).
  [[noreturn]] void fail(size_t at, std::string_view message) const;

 private:
  std::string text_, name_;
};

struct Token {
  enum class Type {
    data,
    print_begin,
    print_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    op,
    end
  };
  Type type = Type::end;
  std::string text;  ///< strings without quotes and escapes, numbers without _
  size_t at = 0;     ///< byte of the source
};

std::vector<Token> tokenize(const Source& source);

}  // namespace resurface::jinja
