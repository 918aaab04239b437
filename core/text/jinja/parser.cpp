#include "core/text/jinja/parser.h"

#include "core/text/jinja/expression_parser.h"

namespace resurface::jinja {
namespace {

using Kind = Statement::Kind;
using Words = std::vector<std::string>;

class Parser {
 public:
  Parser(const Source& source, const Limits& limits)
      : limits_(limits), in_(source), expressions_(in_, limits) {}

  Parsed run() {
    Parsed parsed;
    parsed.body = block({});
    parsed.names = std::move(expressions_.names);
    return parsed;
  }

 private:
  static Statement make(Kind kind, size_t at) {
    Statement result;
    result.kind = kind;
    result.at = at;
    return result;
  }

  /// Up to a tag whose name is in `ends`, which is then the current token.
  Block block(const Words& ends) {
    if (++depth_ > limits_.nesting) {
      in_.fail_here(fmt::format("blocks nest more than {} levels deep", limits_.nesting));
    }
    Block result;
    for (;;) {
      const size_t at = in_.at();
      if (in_.is(Token::Type::data)) {
        result.push_back(make(Kind::data, at));
        result.back().text = in_.next().text;
      } else if (in_.is(Token::Type::print_begin)) {
        in_.next();
        result.push_back(make(Kind::print, at));
        result.back().first = expressions_.tuple();
        if (!in_.is(Token::Type::print_end)) {
          in_.fail_here(fmt::format("expected '}}}}', got {}", in_.described()));
        }
        in_.next();
      } else if (in_.is(Token::Type::block_begin)) {
        in_.next();
        if (is_one_of(ends)) break;
        statement(result);
        in_.expect_block_end();
      } else {
        if (!ends.empty()) {
          in_.fail_here(
              fmt::format("the template ends where {} is missing", fmt::join(ends, " or ")));
        }
        break;
      }
    }
    --depth_;
    return result;
  }

  bool is_one_of(const Words& words) const {
    return std::any_of(words.begin(), words.end(),
                       [&](const std::string& word) { return in_.is_word(word); });
  }

  /// The rest of a tag, and what stands up to one of `ends`; its name is then the current token.
  Block body(const Words& ends) {
    in_.skip_op(":");
    in_.expect_block_end();
    return block(ends);
  }
  /// The same of a tag that begins a scope.
  Block scope(const Words& ends) {
    const bool in_branch = std::exchange(expressions_.in_branch, false);
    auto result = body(ends);
    expressions_.in_branch = in_branch;
    return result;
  }
  /// The same with one end, which is passed.
  Block whole_body(const std::string& end) {
    auto result = scope({end});
    in_.next();
    return result;
  }

  void statement(Block& out) {
    const size_t at = in_.at();
    const std::string tag = in_.expect_name();
    if (tag == "if") {
      out.push_back(branch(at));
    } else if (tag == "for") {
      out.push_back(loop(at));
    } else if (tag == "set") {
      out.push_back(assignment(at));
    } else if (tag == "macro") {
      out.push_back(macro(at));
    } else if (tag == "call") {
      out.push_back(call(at));
    } else if (tag == "filter") {
      out.push_back(make(Kind::filter, at));
      out.back().first = expressions_.filters(nullptr, true);
      scoped(out.back(), "endfilter");
    } else if (tag == "with") {
      out.push_back(with(at));
    } else if (tag == "generation") {
      out.push_back(make(Kind::scope, at));
      scoped(out.back(), "endgeneration");
    } else if (tag == "print") {
      do {
        out.push_back(make(Kind::print, at));
        out.back().first = expressions_.expression();
      } while (in_.skip_op(","));
    } else if (tag == "break" || tag == "continue") {
      if (loops_ == 0) in_.fail(at, fmt::format("'{}' outside of a loop", tag));
      out.push_back(make(tag == "break" ? Kind::break_loop : Kind::continue_loop, at));
    } else {
      in_.fail(at, fmt::format("the tag '{}' is not known", tag));
    }
  }

  /// A body that a loop around it cannot be left from.
  void scoped(Statement& statement, const std::string& end) {
    const auto loops = std::exchange(loops_, 0);
    statement.bodies.push_back(whole_body(end));
    loops_ = loops;
  }

  Statement branch(size_t at) {
    auto result = make(Kind::branch, at);
    const bool in_branch = std::exchange(expressions_.in_branch, true);
    do {
      result.tests.push_back(expressions_.tuple(false));
      result.bodies.push_back(body({"elif", "else", "endif"}));
    } while (in_.skip_word("elif"));
    if (in_.skip_word("else")) result.bodies.push_back(body({"endif"}));
    in_.next();
    expressions_.in_branch = in_branch;
    return result;
  }

  Statement loop(size_t at) {
    auto result = make(Kind::loop, at);
    result.target = expressions_.target(false);
    if (!in_.skip_word("in")) in_.fail_here(fmt::format("expected 'in', got {}", in_.described()));
    result.first = expressions_.tuple(false);
    if (in_.skip_word("if")) result.second = expressions_.expression();
    if (in_.is_word("recursive")) in_.fail_here("recursive loops are not known");
    ++loops_;
    result.bodies.push_back(scope({"endfor", "else"}));
    --loops_;
    if (in_.skip_word("else")) result.bodies.push_back(scope({"endfor"}));
    in_.next();
    return result;
  }

  Statement assignment(size_t at) {
    auto result = make(Kind::assign, at);
    result.target = expressions_.target(true);
    if (in_.skip_op("=")) {
      result.first = expressions_.tuple();
      return result;
    }
    result.kind = Kind::assign_body;
    result.first = expressions_.filters(nullptr);
    scoped(result, "endset");
    return result;
  }

  void signature(Statement::Macro& macro) {
    in_.expect_op("(");
    while (!in_.is_op(")")) {
      macro.parameters.push_back(in_.expect_name());
      if (in_.skip_op("=")) {
        macro.defaults.push_back(expressions_.expression());
      } else if (!macro.defaults.empty()) {
        in_.fail_here("a parameter without a default after those with one");
      }
      if (!in_.skip_op(",")) break;
    }
    in_.expect_op(")");
  }

  /// The body of a macro or a call block, and which of the names that only macros have it reads.
  void macro_body(Statement& statement, const std::string& end) {
    auto outside = std::exchange(expressions_.names, {});
    scoped(statement, end);
    const auto reads = [&](const char* name) { return expressions_.names.contains(name); };
    statement.macro->varargs = reads("varargs");
    statement.macro->kwargs = reads("kwargs");
    statement.macro->caller = reads("caller");
    expressions_.names.merge(outside);
  }

  Statement macro(size_t at) {
    auto result = make(Kind::macro, at);
    result.macro = std::make_unique<Statement::Macro>();
    result.macro->name = in_.expect_name();
    signature(*result.macro);
    macro_body(result, "endmacro");
    return result;
  }

  Statement call(size_t at) {
    auto result = make(Kind::call_block, at);
    result.macro = std::make_unique<Statement::Macro>();
    result.macro->name = "caller";
    if (in_.is_op("(")) signature(*result.macro);
    result.first = expressions_.expression();
    if (result.first->kind != Expression::Kind::call) in_.fail(at, "'call' needs a call");
    macro_body(result, "endcall");
    return result;
  }

  Statement with(size_t at) {
    auto result = make(Kind::with, at);
    while (!in_.is(Token::Type::block_end)) {
      if (!result.tests.empty()) in_.expect_op(",");
      result.tests.push_back(expressions_.target(false));
      in_.expect_op("=");
      result.tests.push_back(expressions_.expression());
    }
    result.bodies.push_back(whole_body("endwith"));
    return result;
  }

  const Limits& limits_;
  TokenStream in_;
  ExpressionParser expressions_;
  int64_t depth_ = 0, loops_ = 0;
};

}  // namespace

Parsed parse(const Source& source, const Limits& limits) { return Parser(source, limits).run(); }

}  // namespace resurface::jinja
