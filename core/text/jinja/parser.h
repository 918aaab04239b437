// From a template's text to its tree, with jinja2/parser.py's grammar.
#pragma once

#include <set>
#include <string>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/lexer.h"

namespace resurface::jinja {

struct Parsed {
  Block body;
  std::set<std::string> names;  ///< variables that the template reads
};

/// Throws Error, naming what is not known: a tag, a filter, a test.
Parsed parse(const Source& source, const Limits& limits);

/// What parse() checks names of filters and tests against (filters.cpp, tests.cpp).
bool is_filter(const std::string& name);
bool is_test(const std::string& name);

}  // namespace resurface::jinja
