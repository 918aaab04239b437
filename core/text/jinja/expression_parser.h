// Expressions. Precedence as in Jinja: or, and, not, comparisons, + -, ~, * / // %, **, signs,
// then what follows a value: .name, [item], (call), |filter, is test.
#pragma once

#include <set>
#include <string>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/token_stream.h"

namespace resurface::jinja {

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, const Limits& limits) : in_(tokens), limits_(limits) {}

  ExpressionPtr expression(bool conditional = true);
  /// Several expressions with commas between them are a tuple.
  ExpressionPtr tuple(bool conditional = true, bool parentheses = false);
  /// What is assigned to: a name, a tuple of such, or a namespace's attribute.
  ExpressionPtr target(bool fields);
  /// | name(arguments) ...; `inline_start`: the first without its |. Null when there is none.
  ExpressionPtr filters(ExpressionPtr value, bool inline_start = false);

  /// Names read since the set was last emptied.
  std::set<std::string> names;
  /// Inside of a branch, a filter or test that is not known fails where it is used, as in Jinja.
  bool in_branch = false;

 private:
  using Kind = Expression::Kind;

  /// One expression inside another, for as long as the guard lives.
  class Deeper {
   public:
    explicit Deeper(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.depth_ > parser_.limits_.nesting) {
        parser_.in_.fail_here(
            fmt::format("expressions nest more than {} levels deep", parser_.limits_.nesting));
      }
    }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    ~Deeper() { --parser_.depth_; }

   private:
    ExpressionParser& parser_;
  };

  template <class... Child>
  static std::vector<ExpressionPtr> children(Child... child) {
    std::vector<ExpressionPtr> all;
    (all.push_back(std::move(child)), ...);
    return all;
  }

  ExpressionPtr make(Kind kind, size_t at, std::vector<ExpressionPtr> children = {},
                     std::string name = {});
  void measure(Expression& expression) const;
  ExpressionPtr conditional();
  ExpressionPtr either();
  ExpressionPtr both();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr join();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr sign(bool with_filters = true);
  ExpressionPtr primary();
  ExpressionPtr one_target(bool fields);
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr postfix(ExpressionPtr value);
  ExpressionPtr subscript(ExpressionPtr value);
  ExpressionPtr slice();
  ExpressionPtr test(ExpressionPtr value);
  void arguments(Expression& call);
  bool tuple_ends() const;

  TokenStream& in_;
  const Limits& limits_;
  int64_t depth_ = 0;
};

}  // namespace resurface::jinja
