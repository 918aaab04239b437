#include <cmath>

#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/strings.h"

namespace resurface::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const Meter::Level level(meter_);
  meter_.spend(1);
  // After a part has been worked out the place is the whole's again; a fault leaves it at the part.
  const size_t before = std::exchange(at_, expression.at);
  auto value = evaluate_here(expression);
  at_ = before;
  return value;
}

Value Interpreter::evaluate_here(const Expression& expression) {
  using Kind = Expression::Kind;
  const auto child = [&](size_t i) { return evaluate(*expression.children[i]); };
  const auto all = [&] {
    std::vector<Value> values;
    for (const auto& one : expression.children) values.push_back(evaluate(*one));
    return values;
  };
  switch (expression.kind) {
    case Kind::constant:
      return expression.constant;
    case Kind::name:
      return evaluate_name(expression.name);
    case Kind::list:
      return make_sequence(meter_, all());
    case Kind::tuple:
      return make_sequence(meter_, all(), Sequence::Kind::tuple);
    case Kind::dict: {
      std::vector<std::pair<Value, Value>> items;
      for (size_t i = 0; i < expression.children.size(); i += 2) {
        auto key = child(i);
        items.emplace_back(std::move(key), child(i + 1));
      }
      return make_dict(meter_, std::move(items));
    }
    case Kind::attribute:
      return attribute(child(0), expression.name);
    case Kind::item: {
      const auto value = child(0);
      const auto& key = *expression.children[1];
      return key.kind == Kind::slice ? slice(value, key) : item(value, evaluate(key));
    }
    case Kind::slice:
      fault("a slice has no place here");
    case Kind::call: {
      const auto function = child(0);
      return call(function, arguments(expression));
    }
    case Kind::filter: {
      const auto value = expression.children[0] ? child(0) : *filtered_;
      return filter(expression.name, value, arguments(expression));
    }
    case Kind::test: {
      const auto value = child(0);
      return Value(test(expression.name, value, arguments(expression)));
    }
    case Kind::negation:
      return Value(!truth(child(0)));
    case Kind::sign: {
      const auto value = child(0);
      if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
      if (!value.number())
        fault("bad operand type for unary {}: '{}'", expression.name, type_name(value));
      if (value.integer()) return binary(expression.name, Value(int64_t{0}), value);
      return Value(expression.name == "-" ? -*value.number() : *value.number());
    }
    case Kind::binary: {
      const auto left = child(0);
      return binary(expression.name, left, child(1));
    }
    case Kind::comparison:
      return compare(expression);
    case Kind::both: {
      auto left = child(0);
      return truth(left) ? child(1) : left;
    }
    case Kind::either: {
      auto left = child(0);
      return truth(left) ? left : child(1);
    }
    case Kind::join:
      return concatenate(expression);
    case Kind::conditional:
      if (truth(child(0))) return child(1);
      if (expression.children[2]) return child(2);
      return Value::undefined("the inline if-expression evaluated to false and has no else");
    case Kind::field:
      break;
  }
  fault("this expression is not known");
}

Value Interpreter::evaluate_name(const std::string& name) {
  if (const auto* value = scope_->find(meter_, name)) return *value;
  if (auto value = global(name)) return *value;
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Args Interpreter::arguments(const Expression& expression) {
  Args args;
  for (size_t i = 1; i < expression.children.size(); ++i)
    args.positional.push_back(evaluate(*expression.children[i]));
  for (const auto& [name, value] : expression.named)
    args.named.emplace_back(name, evaluate(*value));
  if (expression.more) {
    for (auto& value : iterate(meter_, evaluate(*expression.more)))
      args.positional.push_back(std::move(value));
  }
  if (expression.more_named) {
    const auto more = evaluate(*expression.more_named);
    if (!more.dict()) fault("argument after ** must be a mapping, not {}", type_name(more));
    for (const auto& [key, value] : more.dict()->items)
      args.named.emplace_back(needed_text(key), value);
  }
  for (size_t i = 0; i < args.named.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (args.named[i].first == args.named[j].first) {
        fault("two values for the argument '{}'", args.named[i].first);
      }
    }
  }
  return args;
}

Value Interpreter::call(const Value& function, const Args& args) {
  if (function.is_undefined()) fault("{}", *function.as<Undefined>()->why);
  const auto* callable = function.as<std::shared_ptr<const Callable>>();
  if (!callable) fault("'{}' object is not callable", type_name(function));
  const Meter::Level level(meter_);
  const auto held = *callable;
  return held->call(*this, args);
}

Value Interpreter::attribute(const Value& value, const std::string& name) {
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
  if (!name.starts_with("__")) {
    if (auto found = member(*this, value, name)) return *found;
  }
  if (const auto* dict = value.dict()) {
    if (const auto* held = find(meter_, *dict, Value(std::string(name)))) return *held;
  }
  return Value::undefined(fmt::format("'{} object' has no attribute '{}'", type_name(value), name));
}

Value Interpreter::item(const Value& value, const Value& key) {
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
  const auto index = key.integer();
  const auto* sequence = value.sequence();
  const bool indexable =
      sequence && sequence->kind != Sequence::Kind::lazy && sequence->kind != Sequence::Kind::view;
  if (const auto* dict = value.dict()) {
    if (const auto* held = find(meter_, *dict, key)) return *held;
  } else if (index && (indexable || value.text())) {
    const int64_t size = length(value);
    const int64_t at = *index < 0 ? *index + size : *index;
    if (at >= 0 && at < size) {
      if (indexable) return sequence->items[static_cast<size_t>(at)];
      const auto& text = *value.text();
      meter_.spend(static_cast<int64_t>(text.size()) / 16);
      return Value(utf8({characters(text)[static_cast<size_t>(at)]}));
    }
  }
  if (const auto* name = key.text(); name && !name->starts_with("__")) {
    if (auto found = member(*this, value, *name)) return *found;
  }
  return Value::undefined(fmt::format("'{} object' has no element {}", type_name(value),
                                      key.text() || index ? repr(meter_, key) : type_name(key)));
}

Value Interpreter::slice(const Value& value, const Expression& expression) {
  std::array<std::optional<int64_t>, 3> given;
  for (size_t i = 0; i < 3; ++i) {
    if (!expression.children[i]) continue;
    const auto bound = evaluate(*expression.children[i]);
    if (bound.is_undefined()) fault("{}", *bound.as<Undefined>()->why);
    if (!bound.is_none()) given[i] = whole_number(bound);
  }
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
  const auto* sequence = value.sequence();
  const bool is_list = sequence && sequence->kind <= Sequence::Kind::tuple;
  if (!is_list && !value.text()) fault("'{}' object cannot be sliced", type_name(value));
  const int64_t step = given[2].value_or(1), size = length(value);
  if (step == 0) fault("slice step cannot be zero");
  const auto clamp = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound) return otherwise;
    const int64_t at = *bound < 0 ? std::max(*bound, -size - 1) + size : *bound;
    return step > 0 ? std::clamp(at, int64_t{0}, size) : std::clamp(at, int64_t{-1}, size - 1);
  };
  const int64_t begin = clamp(given[0], step > 0 ? 0 : size - 1);
  const int64_t end = clamp(given[1], step > 0 ? size : -1);
  if (value.text()) meter_.make_text(value.text()->size());
  const auto text = value.text() ? characters(*value.text()) : Characters();
  std::vector<Value> items;
  Characters part;
  // The distance that is left is compared, so that a huge step cannot overflow.
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (is_list) {
      items.push_back(sequence->items[static_cast<size_t>(i)]);
    } else {
      part += text[static_cast<size_t>(i)];
    }
    if (step > 0 ? step >= end - i : step <= end - i) break;
    i += step;
  }
  if (is_list) return make_sequence(meter_, std::move(items), sequence->kind);
  return make_text(meter_, utf8(part));
}

Value Interpreter::compare(const Expression& expression) {
  auto left = evaluate(*expression.children[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    const auto& op = expression.operators[i];
    auto right = evaluate(*expression.children[i + 1]);
    bool holds = false;
    if (op == "==") {
      holds = equal(meter_, left, right);
    } else if (op == "!=") {
      holds = !equal(meter_, left, right);
    } else if (op == "in" || op == "not in") {
      holds = contains(meter_, right, left) == (op == "in");
    } else {
      for (const auto* side : {&left, &right}) {
        if (side->is_undefined()) fault("{}", *side->as<Undefined>()->why);
      }
      if (op == "<") {
        holds = less(meter_, left, right);
      } else if (op == ">") {
        holds = less(meter_, right, left);
      } else {
        const bool same = equal(meter_, left, right);
        holds = (op == "<=" ? less(meter_, left, right) : less(meter_, right, left)) || same;
      }
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::concatenate(const Expression& expression) {
  std::string all;
  for (const auto& part : expression.children) {
    const auto text = str(meter_, evaluate(*part));
    meter_.make_text(all.size() + text.size());
    all += text;
  }
  return Value(std::move(all));
}

}  // namespace resurface::jinja
