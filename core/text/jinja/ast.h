// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/value.h"

namespace resurface::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    constant,     ///< constant
    name,         ///< name
    list,         ///< children
    tuple,        ///< children
    dict,         ///< key, value, key, value, ...
    attribute,    ///< children[0].name
    item,         ///< children[0][children[1]]
    slice,        ///< children: begin, end, step; each may be null
    call,         ///< children[0](arguments)
    filter,       ///< children[0] | name(arguments); children[0] is null in blocks
    test,         ///< children[0] is name(arguments)
    negation,     ///< not children[0]
    sign,         ///< name (+ or -) children[0]
    binary,       ///< children[0] name children[1]
    comparison,   ///< children[0] operators[0] children[1] operators[1] ...
    both,         ///< and
    either,       ///< or
    join,         ///< children[0] ~ children[1] ~ ...
    conditional,  ///< children: test, then, else (null: undefined)
    field         ///< name.constant, assigned to: a namespace's attribute
  };
  Kind kind = Kind::constant;
  size_t at = 0;      ///< byte of the source
  int64_t depth = 1;  ///< of expressions in one another
  std::string name;
  Value constant;
  std::vector<std::string> operators;
  std::vector<ExpressionPtr> children;  ///< calls, filters, tests: what is called, then arguments
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more, more_named;  ///< *more, **more_named
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind {
    data,         ///< text
    print,        ///< first
    branch,       ///< tests and bodies; one body more is the else
    loop,         ///< for target in first if second; bodies: the loop's, the else's
    assign,       ///< target = first
    assign_body,  ///< target = bodies[0] through the filter first, if there is one
    macro,        ///< macro
    call_block,   ///< first is called with bodies[0] as `caller`
    filter,       ///< bodies[0] through the filter first
    with,         ///< targets (tests) and values in turn, bodies[0]
    scope,        ///< bodies[0] in a scope of its own: {% generation %}
    break_loop,
    continue_loop
  };
  struct Macro {
    std::string name;
    std::vector<std::string> parameters;
    std::vector<ExpressionPtr> defaults;                   ///< of the last parameters
    bool varargs = false, kwargs = false, caller = false;  ///< the body asks for them
  };
  Kind kind = Kind::data;
  size_t at = 0;
  std::string text;
  ExpressionPtr target, first, second;
  std::vector<ExpressionPtr> tests;
  std::vector<Block> bodies;
  std::unique_ptr<Macro> macro;
};

}  // namespace resurface::jinja
