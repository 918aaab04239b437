// Runs a parsed template.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/lexer.h"
#include "core/text/jinja/value.h"

namespace resurface::jinja {

/// Variables of a block and, behind it, of those around it.
struct Scope {
  std::shared_ptr<Scope> around;
  std::vector<std::pair<std::string, Value>> items;

  void set(Meter& meter, const std::string& name, Value value);
  const Value* find(Meter& meter, const std::string& name) const;
};

class Interpreter {
 public:
  Interpreter(const Source& source, Limits limits, std::tm now)
      : source_(source), meter_(limits), now_(now) {}

  /// Throws Error with the place in the template.
  std::string run(const Block& body, const nlohmann::ordered_json& variables);

  Meter& meter() { return meter_; }
  const std::tm& now() const { return now_; }

  Value call(const Value& function, const Args& args);
  Value filter(const std::string& name, const Value& value, const Args& args);
  bool test(const std::string& name, const Value& value, const Args& args);
  Value attribute(const Value& value, const std::string& name);  ///< value.name
  Value item(const Value& value, const Value& key);              ///< value[key]
  Value binary(const std::string& op, const Value& left, const Value& right);
  Namespace* make_namespace(std::vector<std::pair<std::string, Value>> items);

 private:
  enum class Flow { on, break_loop, continue_loop };
  class Inside;

  Value evaluate(const Expression& expression);
  Value evaluate_here(const Expression& expression);
  Value evaluate_name(const std::string& name);
  Value compare(const Expression& expression);
  Value slice(const Value& value, const Expression& expression);
  Value concatenate(const Expression& expression);
  Args arguments(const Expression& expression);

  Flow execute(const Block& block, std::string& out);
  Flow execute(const Statement& statement, std::string& out);
  Flow loop(const Statement& statement, std::string& out);
  void assign(const Expression& target, Value value);
  std::string capture(const Block& block);  ///< in a scope of its own
  Value through(const Expression* filters, Value value);
  Value make_macro(const Statement& statement);
  Value run_macro(const Statement& statement, std::shared_ptr<Scope> around, const Args& args);
  void print(const std::string& text, std::string& out);

  const Source& source_;
  Meter meter_;
  std::tm now_;
  size_t at_ = 0;
  const Value* filtered_ = nullptr;  ///< what a block's filters begin with
  std::shared_ptr<Scope> scope_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
};

/// Fits arguments to a builtin's parameters; absent ones are empty. Throws Fault for others.
std::vector<std::optional<Value>> bind(const std::string& function, const Args& args,
                                       const std::vector<std::string>& parameters);
/// Functions and the few types that a template finds without being given them.
std::optional<Value> global(const std::string& name);
/// A str's, list's, dict's method or a loop's attribute; empty when the type has none so named.
std::optional<Value> member(Interpreter& in, const Value& value, const std::string& name);
/// left % right with a string on the left.
std::string percent_format(Meter& meter, const std::string& format, const Value& values);
int64_t whole_number(const Value& value);            ///< throws Fault for other types
const std::string& needed_text(const Value& value);  ///< throws Fault for other types

}  // namespace resurface::jinja
