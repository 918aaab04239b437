// What follows a value in an expression.
#include "core/text/jinja/expression_parser.h"
#include "core/text/jinja/parser.h"

namespace resurface::jinja {

ExpressionPtr ExpressionParser::postfix(ExpressionPtr value) {
  for (;;) {
    const size_t at = in_.at();
    if (in_.is_op(".") || in_.is_op("[")) {
      value = subscript(std::move(value));
    } else if (in_.is_op("(")) {
      value = make(Kind::call, at, children(std::move(value)));
      arguments(*value);
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr value) {
  const size_t at = in_.at();
  if (in_.skip_op(".")) {
    if (in_.is(Token::Type::name)) {
      return make(Kind::attribute, at, children(std::move(value)), in_.next().text);
    }
    if (!in_.is(Token::Type::integer)) {
      in_.fail_here(fmt::format("expected a name or a number, got {}", in_.described()));
    }
    return make(Kind::item, at, children(std::move(value), primary()));
  }
  in_.expect_op("[");
  std::vector<ExpressionPtr> keys;
  bool is_tuple = false;
  while (!in_.is_op("]")) {
    keys.push_back(slice());
    if (!in_.skip_op(",")) break;
    is_tuple = true;
  }
  in_.expect_op("]");
  if (is_tuple || keys.empty()) in_.fail(at, "a tuple as an index is not known");
  return make(Kind::item, at, children(std::move(value), std::move(keys[0])));
}

ExpressionPtr ExpressionParser::slice() {
  const size_t at = in_.at();
  const auto ends = [&] { return in_.is_op(":") || in_.is_op("]") || in_.is_op(","); };
  ExpressionPtr begin = in_.is_op(":") ? nullptr : expression();
  if (!in_.skip_op(":")) return begin;
  ExpressionPtr end = ends() ? nullptr : expression();
  ExpressionPtr step = in_.skip_op(":") && !ends() ? expression() : nullptr;
  return make(Kind::slice, at, children(std::move(begin), std::move(end), std::move(step)));
}

void ExpressionParser::arguments(Expression& call) {
  const Deeper deeper(*this);
  in_.expect_op("(");
  while (!in_.is_op(")")) {
    const size_t at = in_.at();
    if (in_.skip_op("*")) {
      if (call.more || call.more_named) in_.fail(at, "a second '*' in a call");
      call.more = expression();
    } else if (in_.skip_op("**")) {
      if (call.more_named) in_.fail(at, "a second '**' in a call");
      call.more_named = expression();
    } else if (in_.is(Token::Type::name) && in_.ahead().type == Token::Type::op &&
               in_.ahead().text == "=") {
      if (call.more_named) in_.fail(at, "an argument after '**'");
      std::string name = in_.next().text;
      in_.next();
      call.named.emplace_back(std::move(name), expression());
    } else {
      if (call.more || call.more_named || !call.named.empty()) {
        in_.fail(at, "an argument without a name after those with one");
      }
      call.children.push_back(expression());
    }
    if (!in_.skip_op(",")) break;
  }
  in_.expect_op(")");
  measure(call);
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr value, bool inline_start) {
  while (inline_start || in_.skip_op("|")) {
    inline_start = false;
    const size_t at = in_.at();
    std::string name = in_.expect_name();
    while (in_.skip_op(".")) name.append(".").append(in_.expect_name());
    if (!in_branch && !is_filter(name)) {
      in_.fail(at, fmt::format("the filter '{}' is not known", name));
    }
    value = make(Kind::filter, at, children(std::move(value)), name);
    if (in_.is_op("(")) arguments(*value);
  }
  return value;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr value) {
  in_.next();
  const bool negated = in_.skip_word("not");
  const size_t at = in_.at();
  std::string name = in_.expect_name();
  while (in_.skip_op(".")) name.append(".").append(in_.expect_name());
  if (!in_branch && !is_test(name)) {
    in_.fail(at, fmt::format("the test '{}' is not known", name));
  }
  auto result = make(Kind::test, at, children(std::move(value)), name);
  const bool begins = in_.is(Token::Type::string) || in_.is(Token::Type::integer) ||
                      in_.is(Token::Type::real) || in_.is_op("[") || in_.is_op("{") ||
                      (in_.is(Token::Type::name) && !in_.is_word("else") && !in_.is_word("or") &&
                       !in_.is_word("and"));
  if (in_.is_op("(")) {
    arguments(*result);
  } else if (begins) {
    if (in_.is_word("is")) in_.fail_here("tests with 'is' cannot be chained");
    const Deeper deeper(*this);
    result->children.push_back(postfix(primary()));
    measure(*result);
  }
  return negated ? make(Kind::negation, at, children(std::move(result))) : std::move(result);
}

}  // namespace resurface::jinja
