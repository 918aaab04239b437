// The values of a template, with Python's semantics: what transformers hands to Jinja and what
// expressions make of it. Lists and dicts never change, as in Jinja's immutable sandbox; only a
// namespace does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/text/jinja/meter.h"

namespace resurface::jinja {

class Interpreter;
struct Sequence;
struct Dict;
struct Namespace;
struct Loop;
struct Callable;

struct None {};
struct Undefined {
  std::shared_ptr<const std::string> why;  ///< "'x' is undefined"
};
struct Text {
  std::shared_ptr<const std::string> bytes;  ///< UTF-8
  bool markup = false;                       ///< through |safe or |escape
};

struct Value {
  std::variant<None, Undefined, bool, int64_t, double, Text, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>, Namespace*, std::shared_ptr<Loop>,
               std::shared_ptr<const Callable>>
      data;

  Value() = default;
  explicit Value(bool value) : data(value) {}
  explicit Value(int64_t value) : data(value) {}
  explicit Value(double value) : data(value) {}
  explicit Value(std::string value)
      : data(Text{std::make_shared<const std::string>(std::move(value)), false}) {}
  explicit Value(const char*) = delete;
  template <class T>
  static Value of(T held) {
    Value value;
    value.data = std::move(held);
    return value;
  }
  static Value undefined(std::string why) {
    return of(Undefined{std::make_shared<const std::string>(std::move(why))});
  }

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  bool is_none() const { return as<None>() != nullptr; }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  const std::string* text() const {
    const auto* held = as<Text>();
    return held ? held->bytes.get() : nullptr;
  }
  const Sequence* sequence() const;
  const Dict* dict() const;
  /// True and False count as 1 and 0.
  std::optional<int64_t> integer() const;
  /// Of integers, too.
  std::optional<double> number() const;
};

/// Lists, tuples, and what Python has beside them.
struct Sequence {
  enum class Kind { list, tuple, lazy, view, range };
  Kind kind = Kind::list;
  std::vector<Value> items;
  int64_t depth = 1;          ///< of containers in one another
  mutable bool used = false;  ///< lazy: a generator gives its items once
};

struct Dict {
  std::vector<std::pair<Value, Value>> items;  ///< in the order of insertion
  int64_t depth = 1;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> items;
};

/// `loop` in the body of a for.
struct Loop {
  std::vector<Value> items;
  size_t index = 0;
  std::optional<std::vector<Value>> changed;  ///< what loop.changed saw last
};

/// Arguments of a call.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable {
  std::string name;
  std::function<Value(Interpreter&, const Args&)> call;
};

// Making values. Each checks the limits.
Value make_text(Meter& meter, std::string text);
Value make_sequence(Meter& meter, std::vector<Value> items,
                    Sequence::Kind kind = Sequence::Kind::list);
Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> items);
Value from_json(Meter& meter, const nlohmann::ordered_json& json);

// Python's operations.
std::string type_name(const Value& value);  ///< "str", "list", "NoneType"
bool truth(const Value& value);
bool equal(Meter& meter, const Value& a, const Value& b);
/// Throws Fault for types without an order.
bool less(Meter& meter, const Value& a, const Value& b);
const Value* find(Meter& meter, const Dict& dict, const Value& key);
bool contains(Meter& meter, const Value& container, const Value& item);
/// What iterating gives: items, keys, characters. Undefined: nothing.
std::vector<Value> iterate(Meter& meter, const Value& value);
int64_t length(const Value& value);

std::string float_text(double value);                ///< 1.0, 1e-05, inf
std::string str(Meter& meter, const Value& value);   ///< str(): what {{ }} prints
std::string repr(Meter& meter, const Value& value);  ///< repr()
struct JsonStyle {
  bool ascii = false, sort_keys = false;
  std::optional<std::string> indent;
  std::string item = ", ", key = ": ";
};
std::string to_json(Meter& meter, const Value& value, const JsonStyle& style);

}  // namespace resurface::jinja
