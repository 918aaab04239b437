#include "core/text/jinja/expression_parser.h"

#include <charconv>
#include <cstdlib>

#include "core/text/jinja/parser.h"

namespace resurface::jinja {

void ExpressionParser::measure(Expression& expression) const {
  const auto below = [&](const ExpressionPtr& child) {
    if (child) expression.depth = std::max(expression.depth, child->depth + 1);
  };
  for (const auto& child : expression.children) below(child);
  for (const auto& [name, child] : expression.named) below(child);
  below(expression.more);
  below(expression.more_named);
  if (expression.depth > limits_.nesting) {
    in_.fail(expression.at,
             fmt::format("expressions nest more than {} levels deep", limits_.nesting));
  }
}

ExpressionPtr ExpressionParser::make(Kind kind, size_t at, std::vector<ExpressionPtr> children,
                                     std::string name) {
  auto result = std::make_unique<Expression>();
  result->kind = kind;
  result->at = at;
  result->children = std::move(children);
  result->name = std::move(name);
  measure(*result);
  return result;
}

ExpressionPtr ExpressionParser::expression(bool with_conditional) {
  const Deeper deeper(*this);
  return with_conditional ? conditional() : either();
}

ExpressionPtr ExpressionParser::conditional() {
  const size_t at = in_.at();
  auto value = either();
  while (in_.skip_word("if")) {
    auto test = either();
    auto otherwise = in_.skip_word("else") ? expression() : nullptr;
    value = make(Kind::conditional, at,
                 children(std::move(test), std::move(value), std::move(otherwise)));
  }
  return value;
}

ExpressionPtr ExpressionParser::either() {
  const size_t at = in_.at();
  auto left = both();
  while (in_.skip_word("or")) left = make(Kind::either, at, children(std::move(left), both()));
  return left;
}

ExpressionPtr ExpressionParser::both() {
  const size_t at = in_.at();
  auto left = negation();
  while (in_.skip_word("and")) left = make(Kind::both, at, children(std::move(left), negation()));
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  const size_t at = in_.at();
  if (!in_.skip_word("not")) return comparison();
  const Deeper deeper(*this);
  return make(Kind::negation, at, children(negation()));
}

ExpressionPtr ExpressionParser::comparison() {
  const size_t at = in_.at();
  auto first = sum();
  std::vector<std::string> operators;
  std::vector<ExpressionPtr> values;
  values.push_back(std::move(first));
  for (;;) {
    const std::string& text = in_.current().text;
    const bool is_op = in_.is(Token::Type::op);
    if (is_op && (text == "==" || text == "!=" || text == "<" || text == "<=" || text == ">" ||
                  text == ">=")) {
      operators.push_back(in_.next().text);
    } else if (in_.skip_word("in")) {
      operators.emplace_back("in");
    } else if (in_.is_word("not") && in_.ahead().type == Token::Type::name &&
               in_.ahead().text == "in") {
      in_.next();
      in_.next();
      operators.emplace_back("not in");
    } else {
      break;
    }
    values.push_back(sum());
  }
  if (operators.empty()) return std::move(values[0]);
  auto result = make(Kind::comparison, at, std::move(values));
  result->operators = std::move(operators);
  return result;
}

ExpressionPtr ExpressionParser::sum() {
  auto left = join();
  while (in_.is_op("+") || in_.is_op("-")) {
    const auto& op = in_.next();
    left = make(Kind::binary, op.at, children(std::move(left), join()), op.text);
  }
  return left;
}

ExpressionPtr ExpressionParser::join() {
  const size_t at = in_.at();
  std::vector<ExpressionPtr> parts;
  parts.push_back(product());
  while (in_.skip_op("~")) parts.push_back(product());
  if (parts.size() == 1) return std::move(parts[0]);
  return make(Kind::join, at, std::move(parts));
}

ExpressionPtr ExpressionParser::product() {
  auto left = power();
  while (in_.is_op("*") || in_.is_op("/") || in_.is_op("//") || in_.is_op("%")) {
    const auto& op = in_.next();
    left = make(Kind::binary, op.at, children(std::move(left), power()), op.text);
  }
  return left;
}

ExpressionPtr ExpressionParser::power() {
  auto left = sign();
  while (in_.is_op("**")) {
    const auto& op = in_.next();
    left = make(Kind::binary, op.at, children(std::move(left), sign()), op.text);
  }
  return left;
}

ExpressionPtr ExpressionParser::sign(bool with_filters) {
  ExpressionPtr value;
  if (in_.is_op("-") || in_.is_op("+")) {
    const Deeper deeper(*this);
    const auto& op = in_.next();
    value = make(Kind::sign, op.at, children(sign(false)), op.text);
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  while (with_filters) {
    if (in_.is_op("|")) {
      value = filters(std::move(value));
    } else if (in_.is_word("is")) {
      value = test(std::move(value));
    } else if (in_.is_op("(")) {
      value = postfix(std::move(value));
    } else {
      break;
    }
  }
  return value;
}

ExpressionPtr ExpressionParser::primary() {
  const size_t at = in_.at();
  auto result = make(Kind::constant, at);
  const auto type = in_.current().type;
  const std::string text = in_.current().text;
  if (type == Token::Type::name) {
    in_.next();
    if (text == "true" || text == "True" || text == "false" || text == "False") {
      result->constant = Value(text == "true" || text == "True");
    } else if (text != "none" && text != "None") {
      result->kind = Kind::name;
      result->name = text;
      names.insert(text);
    }
  } else if (type == Token::Type::string) {
    std::string all;
    while (in_.is(Token::Type::string)) all += in_.next().text;
    result->constant = Value(std::move(all));
  } else if (type == Token::Type::integer) {
    in_.next();
    const bool prefixed =
        text.size() > 2 && text[0] == '0' && !std::isdigit(static_cast<uint8_t>(text[1]));
    const int base = !prefixed ? 10 : text[1] == 'b' ? 2 : text[1] == 'o' ? 8 : 16;
    int64_t number = 0;
    const char* begin = text.data() + (prefixed ? 2 : 0);
    if (std::from_chars(begin, text.data() + text.size(), number, base).ec != std::errc()) {
      in_.fail(at, "integers beyond 64 bits are not known");
    }
    result->constant = Value(number);
  } else if (type == Token::Type::real) {
    in_.next();
    result->constant = Value(std::strtod(text.c_str(), nullptr));
  } else if (in_.skip_op("(")) {
    result = tuple(true, true);
    in_.expect_op(")");
  } else if (in_.is_op("[")) {
    result = list();
  } else if (in_.is_op("{")) {
    result = dict();
  } else {
    in_.fail_here(fmt::format("expected a value, got {}", in_.described()));
  }
  return result;
}

bool ExpressionParser::tuple_ends() const {
  return in_.is(Token::Type::print_end) || in_.is(Token::Type::block_end) || in_.is_op(")") ||
         in_.is_word("in") || in_.is_word("recursive");
}

ExpressionPtr ExpressionParser::tuple(bool with_conditional, bool parentheses) {
  const size_t at = in_.at();
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!tuple_ends()) {
    items.push_back(expression(with_conditional));
    if (!in_.skip_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !parentheses) {
    in_.fail_here(fmt::format("expected an expression, got {}", in_.described()));
  }
  return make(Kind::tuple, at, std::move(items));
}

ExpressionPtr ExpressionParser::one_target(bool fields) {
  const size_t at = in_.at();
  if (in_.skip_op("(")) {
    auto inner = target(fields);
    in_.expect_op(")");
    return inner;
  }
  const std::string name = in_.expect_name();
  for (const char* taken : {"true", "True", "false", "False", "none", "None"}) {
    if (name == taken) in_.fail(at, fmt::format("'{}' cannot be assigned to", name));
  }
  auto result = make(Kind::name, at, {}, name);
  if (fields && in_.skip_op(".")) {
    result->kind = Kind::field;
    result->constant = Value(in_.expect_name());
    names.insert(name);
  }
  return result;
}

ExpressionPtr ExpressionParser::target(bool fields) {
  const Deeper deeper(*this);
  const size_t at = in_.at();
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!tuple_ends()) {
    items.push_back(one_target(fields));
    if (!in_.skip_op(",")) break;
    is_tuple = true;
  }
  if (items.empty()) in_.fail_here(fmt::format("expected a name, got {}", in_.described()));
  return is_tuple ? make(Kind::tuple, at, std::move(items)) : std::move(items[0]);
}

ExpressionPtr ExpressionParser::list() {
  const size_t at = in_.at();
  in_.expect_op("[");
  std::vector<ExpressionPtr> items;
  while (!in_.is_op("]")) {
    items.push_back(expression());
    if (!in_.skip_op(",")) break;
  }
  in_.expect_op("]");
  return make(Kind::list, at, std::move(items));
}

ExpressionPtr ExpressionParser::dict() {
  const size_t at = in_.at();
  in_.expect_op("{");
  std::vector<ExpressionPtr> items;
  while (!in_.is_op("}")) {
    items.push_back(expression());
    in_.expect_op(":");
    items.push_back(expression());
    if (!in_.skip_op(",")) break;
  }
  in_.expect_op("}");
  return make(Kind::dict, at, std::move(items));
}

}  // namespace resurface::jinja
