#include "core/text/jinja/interpreter.h"

namespace resurface::jinja {

void Scope::set(Meter& meter, const std::string& name, Value value) {
  meter.spend(1 + std::ssize(items) / 8);
  for (auto& [known, held] : items) {
    if (known == name) {
      held = std::move(value);
      return;
    }
  }
  items.emplace_back(name, std::move(value));
}

const Value* Scope::find(Meter& meter, const std::string& name) const {
  for (const Scope* scope = this; scope; scope = scope->around.get()) {
    meter.spend(1 + std::ssize(scope->items) / 8);
    for (const auto& [known, value] : scope->items) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

/// A scope inside another, left with the guard's lifetime.
class Interpreter::Inside {
 public:
  Inside(Interpreter& in, std::shared_ptr<Scope> around) : in_(in), before_(in.scope_) {
    in_.scope_ = std::make_shared<Scope>(Scope{std::move(around), {}});
  }
  explicit Inside(Interpreter& in) : Inside(in, in.scope_) {}
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  ~Inside() { in_.scope_ = std::move(before_); }

 private:
  Interpreter& in_;
  std::shared_ptr<Scope> before_;
};

std::string Interpreter::run(const Block& body, const nlohmann::ordered_json& variables) {
  try {
    // Variables that are given stand behind those that the template sets.
    auto given = std::make_shared<Scope>();
    for (const auto& [name, value] : variables.items())
      given->items.emplace_back(name, from_json(meter_, value));
    scope_ = std::make_shared<Scope>(Scope{std::move(given), {}});
    std::string out;
    execute(body, out);
    scope_.reset();
    return out;
  } catch (const Fault& error) {
    source_.fail(at_, error.what());
  }
}

void Interpreter::print(const std::string& text, std::string& out) {
  meter_.spend(1 + static_cast<int64_t>(text.size()) / 16);
  if (out.size() + text.size() > static_cast<size_t>(meter_.limits().text)) {
    meter_.make_text(out.size() + text.size());
  }
  out += text;
}

Interpreter::Flow Interpreter::execute(const Block& block, std::string& out) {
  for (const auto& statement : block) {
    if (const auto flow = execute(statement, out); flow != Flow::on) return flow;
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::execute(const Statement& statement, std::string& out) {
  using Kind = Statement::Kind;
  const Meter::Level level(meter_);
  at_ = statement.at;
  meter_.spend(1);
  switch (statement.kind) {
    case Kind::data:
      print(statement.text, out);
      break;
    case Kind::print:
      print(str(meter_, evaluate(*statement.first)), out);
      break;
    case Kind::branch:
      for (size_t i = 0; i < statement.bodies.size(); ++i) {
        if (i < statement.tests.size() && !truth(evaluate(*statement.tests[i]))) continue;
        return execute(statement.bodies[i], out);
      }
      break;
    case Kind::loop:
      return loop(statement, out);
    case Kind::assign:
      assign(*statement.target, evaluate(*statement.first));
      break;
    case Kind::assign_body:
      assign(*statement.target,
             through(statement.first.get(), make_text(meter_, capture(statement.bodies[0]))));
      break;
    case Kind::filter:
      print(str(meter_,
                through(statement.first.get(), make_text(meter_, capture(statement.bodies[0])))),
            out);
      break;
    case Kind::macro:
      scope_->set(meter_, statement.macro->name, make_macro(statement));
      break;
    case Kind::call_block: {
      const auto function = evaluate(*statement.first->children[0]);
      auto args = arguments(*statement.first);
      args.named.emplace_back("caller", make_macro(statement));
      print(str(meter_, call(function, args)), out);
      break;
    }
    case Kind::with: {
      std::vector<Value> values;
      for (size_t i = 1; i < statement.tests.size(); i += 2)
        values.push_back(evaluate(*statement.tests[i]));
      const Inside inside(*this);
      for (size_t i = 0; i < values.size(); ++i) assign(*statement.tests[2 * i], values[i]);
      return execute(statement.bodies[0], out);
    }
    case Kind::scope:
      print(capture(statement.bodies[0]), out);
      break;
    case Kind::break_loop:
      return Flow::break_loop;
    case Kind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::on;
}

std::string Interpreter::capture(const Block& block) {
  const Inside inside(*this);
  std::string out;
  execute(block, out);
  return out;
}

Value Interpreter::through(const Expression* filters, Value value) {
  if (!filters) return value;
  const auto* before = std::exchange(filtered_, &value);
  auto result = evaluate(*filters);
  filtered_ = before;
  return result;
}

Interpreter::Flow Interpreter::loop(const Statement& statement, std::string& out) {
  auto items = iterate(meter_, evaluate(*statement.first));
  if (statement.second) {
    std::vector<Value> kept;
    for (auto& item : items) {
      const Inside inside(*this);
      assign(*statement.target, item);
      if (truth(evaluate(*statement.second))) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    if (statement.bodies.size() < 2) return Flow::on;
    const Inside inside(*this);
    return execute(statement.bodies[1], out);
  }
  auto state = std::make_shared<Loop>();
  state->items = std::move(items);
  auto flow = Flow::on;
  for (size_t i = 0; i < state->items.size() && flow != Flow::break_loop; ++i) {
    meter_.spend(1);
    state->index = i;
    const Inside inside(*this);
    scope_->set(meter_, "loop", Value::of(state));
    assign(*statement.target, state->items[i]);
    flow = execute(statement.bodies[0], out);
  }
  return Flow::on;
}

void Interpreter::assign(const Expression& target, Value value) {
  switch (target.kind) {
    case Expression::Kind::tuple: {
      const auto items = iterate(meter_, value);
      if (items.size() != target.children.size()) {
        fault("{} values to unpack, expected {}", items.size(), target.children.size());
      }
      for (size_t i = 0; i < items.size(); ++i) assign(*target.children[i], items[i]);
      break;
    }
    case Expression::Kind::field: {
      const auto held = evaluate_name(target.name);
      auto* const* space = held.as<Namespace*>();
      if (!space) {
        at_ = target.at;
        fault("cannot assign to an attribute of '{}', which is no namespace", target.name);
      }
      const auto& name = *target.constant.text();
      meter_.spend(1 + std::ssize((*space)->items) / 8);
      for (auto& [known, old] : (*space)->items) {
        if (known == name) {
          old = std::move(value);
          return;
        }
      }
      (*space)->items.emplace_back(name, std::move(value));
      break;
    }
    default:
      scope_->set(meter_, target.name, std::move(value));
  }
}

Namespace* Interpreter::make_namespace(std::vector<std::pair<std::string, Value>> items) {
  namespaces_.push_back(std::make_unique<Namespace>(Namespace{std::move(items)}));
  return namespaces_.back().get();
}

Value Interpreter::make_macro(const Statement& statement) {
  // A macro lives in the scope that it sees: held the other way round, both would stay for ever.
  const auto call = [&statement, around = std::weak_ptr<Scope>(scope_)](Interpreter& in,
                                                                        const Args& args) {
    auto scope = around.lock();
    if (!scope) {
      fault("calling the macro '{}' outside of the block that it stands in is not known",
            statement.macro->name);
    }
    return in.run_macro(statement, std::move(scope), args);
  };
  return Value::of(std::make_shared<const Callable>(Callable{statement.macro->name, call}));
}

Value Interpreter::run_macro(const Statement& statement, std::shared_ptr<Scope> around,
                             const Args& args) {
  const Meter::Level level(meter_);
  const auto& macro = *statement.macro;
  const size_t count = macro.parameters.size();
  const Inside inside(*this, std::move(around));
  std::vector<std::optional<Value>> given(count);
  for (size_t i = 0; i < std::min(count, args.positional.size()); ++i)
    given[i] = args.positional[i];
  std::vector<std::pair<Value, Value>> others;
  std::optional<Value> caller;
  for (const auto& [name, value] : args.named) {
    const auto place = std::find(macro.parameters.begin(), macro.parameters.end(), name);
    const auto i = static_cast<size_t>(place - macro.parameters.begin());
    if (i < count) {
      if (given[i]) fault("macro '{}' got two values for '{}'", macro.name, name);
      given[i] = value;
    } else if (name == "caller" && macro.caller) {
      caller = value;
    } else if (macro.kwargs) {
      others.emplace_back(Value(std::string(name)), value);
    } else {
      fault("macro '{}' takes no argument '{}'", macro.name, name);
    }
  }
  std::vector<Value> rest;
  if (args.positional.size() > count) {
    if (!macro.varargs) fault("macro '{}' takes at most {} arguments", macro.name, count);
    rest.assign(args.positional.begin() + static_cast<int64_t>(count), args.positional.end());
  }
  if (macro.caller && std::find(macro.parameters.begin(), macro.parameters.end(), "caller") ==
                          macro.parameters.end()) {
    scope_->set(meter_, "caller", caller.value_or(Value::undefined("no caller is defined")));
  }
  const size_t plain = count - macro.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    if (!given[i]) {
      given[i] = i < plain ? Value::undefined(fmt::format("parameter '{}' was not provided",
                                                          macro.parameters[i]))
                           : evaluate(*macro.defaults[i - plain]);
    }
    scope_->set(meter_, macro.parameters[i], *given[i]);
  }
  if (macro.varargs) {
    scope_->set(meter_, "varargs", make_sequence(meter_, std::move(rest), Sequence::Kind::tuple));
  }
  if (macro.kwargs) scope_->set(meter_, "kwargs", make_dict(meter_, std::move(others)));
  std::string out;
  execute(statement.bodies[0], out);
  return make_text(meter_, std::move(out));
}

}  // namespace resurface::jinja
