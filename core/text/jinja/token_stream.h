// The parser's view of the tokens.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/jinja/lexer.h"

namespace resurface::jinja {

class TokenStream {
 public:
  explicit TokenStream(const Source& source) : source_(source), tokens_(tokenize(source)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = tokens_[at_];
    if (token.type != Token::Type::end) ++at_;
    return token;
  }
  size_t at() const { return current().at; }

  bool is(Token::Type type) const { return current().type == type; }
  bool is_op(std::string_view text) const { return is(Token::Type::op) && current().text == text; }
  bool is_word(std::string_view text) const {
    return is(Token::Type::name) && current().text == text;
  }
  bool skip_op(std::string_view text) {
    if (!is_op(text)) return false;
    next();
    return true;
  }
  bool skip_word(std::string_view text) {
    if (!is_word(text)) return false;
    next();
    return true;
  }
  void expect_op(std::string_view text) {
    if (!skip_op(text)) fail_here(fmt::format("expected '{}', got {}", text, described()));
  }
  std::string expect_name() {
    if (!is(Token::Type::name)) fail_here(fmt::format("expected a name, got {}", described()));
    return next().text;
  }
  void expect_block_end() {
    if (!is(Token::Type::block_end)) fail_here(fmt::format("expected '%}}', got {}", described()));
    next();
  }

  std::string described() const {
    switch (current().type) {
      case Token::Type::end:
        return "the end of the template";
      case Token::Type::print_end:
        return "'}}'";
      case Token::Type::block_end:
        return "'%}'";
      default:
        return fmt::format("'{}'", current().text);
    }
  }
  [[noreturn]] void fail_here(const std::string& message) const { source_.fail(at(), message); }
  [[noreturn]] void fail(size_t at, const std::string& message) const { source_.fail(at, message); }

 private:
  const Source& source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace resurface::jinja
