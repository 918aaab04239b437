// Python's operators on values.
#include <cmath>

#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/strings.h"

namespace resurface::jinja {
namespace {

[[noreturn]] void unsupported(const std::string& op, const Value& left, const Value& right) {
  fault("unsupported operand types for {}: '{}' and '{}'", op, type_name(left), type_name(right));
}

[[noreturn]] void too_large() { fault("integers beyond 64 bits are not known"); }

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) too_large();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) too_large();
  }
  return result;
}

Value whole(const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+") {
    if (__builtin_add_overflow(a, b, &result)) too_large();
  } else if (op == "-") {
    if (__builtin_sub_overflow(a, b, &result)) too_large();
  } else if (op == "*") {
    if (__builtin_mul_overflow(a, b, &result)) too_large();
  } else if (op == "**") {
    if (b < 0) {
      if (a == 0) fault("zero to a negative power");
      return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    result = power(a, b);
  } else {
    if (b == 0) fault("division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) return whole(op == "%" ? "*" : "-", 0, op == "%" ? 0 : a);
    const bool down = a % b != 0 && (a < 0) != (b < 0);
    result = op == "%" ? a % b + (down ? b : 0) : a / b - (down ? 1 : 0);
  }
  return Value(result);
}

double real(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    if (a == 0 && b < 0) fault("zero to a negative power");
    if (a < 0 && b != std::floor(b)) fault("complex numbers are not known");
    const double result = std::pow(a, b);
    if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) fault("result too large");
    return result;
  }
  if (b == 0) fault("division by zero");
  if (op == "/") return a / b;
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  if (rest == 0) rest = std::copysign(0.0, b);
  if (op == "%") return rest;
  const double quotient = (a - rest) / b;
  const double down = std::floor(quotient);
  if (quotient == 0) return std::copysign(0.0, a / b);
  return quotient - down > 0.5 ? down + 1 : down;
}

Value repeated(Meter& meter, const Value& value, int64_t count) {
  count = std::max(count, int64_t{0});
  const auto size = value.text() ? std::ssize(*value.text()) : std::ssize(value.sequence()->items);
  int64_t total = 0;
  if (__builtin_mul_overflow(size, count, &total)) too_large();
  if (value.text()) {
    meter.make_text(static_cast<size_t>(total));
    std::string all;
    all.reserve(static_cast<size_t>(total));
    for (int64_t i = 0; i < count && size > 0; ++i) all += *value.text();
    return Value(std::move(all));
  }
  meter.spend(total);
  std::vector<Value> items;
  for (int64_t i = 0; i < count && size > 0; ++i) {
    items.insert(items.end(), value.sequence()->items.begin(), value.sequence()->items.end());
  }
  return make_sequence(meter, std::move(items), value.sequence()->kind);
}

Value added(Meter& meter, const Value& left, const Value& right) {
  if (left.text() && right.text()) {
    const bool markup_left = left.as<Text>()->markup, markup_right = right.as<Text>()->markup;
    // Markup escapes what is added to it.
    std::string a = markup_right && !markup_left ? html_escaped(*left.text()) : *left.text();
    const std::string b =
        markup_left && !markup_right ? html_escaped(*right.text()) : *right.text();
    meter.make_text(a.size() + b.size());
    a += b;
    return Value::of(
        Text{std::make_shared<const std::string>(std::move(a)), markup_left || markup_right});
  }
  const auto *a = left.sequence(), *b = right.sequence();
  if (!a || !b || a->kind != b->kind || a->kind > Sequence::Kind::tuple) {
    unsupported("+", left, right);
  }
  meter.spend(std::ssize(a->items) + std::ssize(b->items));
  auto items = a->items;
  items.insert(items.end(), b->items.begin(), b->items.end());
  return make_sequence(meter, std::move(items), a->kind);
}

}  // namespace

Value Interpreter::binary(const std::string& op, const Value& left, const Value& right) {
  if (op == "%" && left.text()) {
    if (left.as<Text>()->markup) fault("'%' with markup is not known");
    return make_text(meter_, percent_format(meter_, *left.text(), right));
  }
  for (const auto* side : {&left, &right}) {
    if (side->is_undefined()) fault("{}", *side->as<Undefined>()->why);
  }
  if (left.integer() && right.integer()) return whole(op, *left.integer(), *right.integer());
  if (left.number() && right.number()) return Value(real(op, *left.number(), *right.number()));
  if (op == "+") return added(meter_, left, right);
  const auto repeats = [](const Value& value) {
    return value.text() || (value.sequence() && value.sequence()->kind <= Sequence::Kind::tuple);
  };
  if (op == "*" && repeats(left) && right.integer()) {
    return repeated(meter_, left, *right.integer());
  }
  if (op == "*" && repeats(right) && left.integer()) {
    return repeated(meter_, right, *left.integer());
  }
  unsupported(op, left, right);
}

}  // namespace resurface::jinja
