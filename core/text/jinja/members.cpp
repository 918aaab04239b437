// What a value has behind a dot, and the functions that are there without being given.
#include <array>
#include <set>

#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/text_methods.h"

namespace resurface::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;
using Function = std::function<Value(Interpreter&, const Args&)>;

Value function(const std::string& name, Function call) {
  return Value::of(std::make_shared<const Callable>(Callable{name, std::move(call)}));
}

Value refused(const std::string& name, const std::string& why) {
  return function(name,
                  [name, why](Interpreter&, const Args&) -> Value { fault("'{}' {}", name, why); });
}

Value view(Interpreter& in, const Dict& dict, bool keys, bool values) {
  std::vector<Value> items;
  in.meter().spend(std::ssize(dict.items));
  for (const auto& [key, value] : dict.items) {
    if (keys && values) {
      items.push_back(make_sequence(in.meter(), {key, value}, Sequence::Kind::tuple));
    } else {
      items.push_back(keys ? key : value);
    }
  }
  return make_sequence(in.meter(), std::move(items), Sequence::Kind::view);
}

std::optional<Value> dict_member(const Value& self, const std::string& name) {
  static const std::set<std::string> changing = {"clear",      "pop",    "popitem",
                                                 "setdefault", "update", "fromkeys"};
  if (name == "items" || name == "keys" || name == "values") {
    return function(name, [self, name](Interpreter& in, const Args& args) {
      bind(name, args, {});
      return view(in, *self.dict(), name != "values", name != "keys");
    });
  }
  if (name == "get") {
    return function(name, [self](Interpreter& in, const Args& args) {
      const Bound given = bind("get", args, {"", ""});
      if (!given[0]) fault("get needs a key");
      const auto* held = find(in.meter(), *self.dict(), *given[0]);
      return held ? *held : given[1].value_or(Value());
    });
  }
  if (name == "copy") {
    return function(name, [self](Interpreter&, const Args& args) {
      bind("copy", args, {});
      return self;
    });
  }
  if (changing.contains(name)) return refused(name, "is not allowed: dicts do not change");
  return std::nullopt;
}

std::optional<Value> list_member(const Value& self, const std::string& name) {
  static const std::set<std::string> changing = {"append", "clear",  "extend",  "insert",
                                                 "pop",    "remove", "reverse", "sort"};
  const bool is_list = self.sequence()->kind == Sequence::Kind::list;
  if (self.sequence()->kind > Sequence::Kind::tuple) return std::nullopt;
  if (name == "count" || name == "index") {
    return function(name, [self, name](Interpreter& in, const Args& args) {
      const Bound given = bind(name, args, {""});
      if (!given[0]) fault("'{}' needs an argument", name);
      int64_t count = 0, place = 0;
      for (const auto& item : self.sequence()->items) {
        if (equal(in.meter(), item, *given[0])) {
          if (name == "index") return Value(place);
          ++count;
        }
        ++place;
      }
      if (name == "index") fault("the value is not in the list");
      return Value(count);
    });
  }
  if (is_list && name == "copy") {
    return function(name, [self](Interpreter&, const Args& args) {
      bind("copy", args, {});
      return self;
    });
  }
  if (is_list && changing.contains(name)) {
    return refused(name, "is not allowed: lists do not change");
  }
  return std::nullopt;
}

std::optional<Value> loop_member(const std::shared_ptr<Loop>& loop, const std::string& name) {
  const auto size = std::ssize(loop->items), at = static_cast<int64_t>(loop->index);
  if (name == "index") return Value(at + 1);
  if (name == "index0") return Value(at);
  if (name == "revindex") return Value(size - at);
  if (name == "revindex0") return Value(size - at - 1);
  if (name == "first") return Value(at == 0);
  if (name == "last") return Value(at == size - 1);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(int64_t{1});  // grows in recursive loops only
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem") {
    return at > 0 ? loop->items[loop->index - 1] : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return at + 1 < size ? loop->items[loop->index + 1] : Value::undefined("there is no next item");
  }
  if (name == "cycle") {
    return function(name, [loop](Interpreter&, const Args& args) {
      if (args.positional.empty() || !args.named.empty()) fault("no items for cycling given");
      return args.positional[loop->index % args.positional.size()];
    });
  }
  if (name == "changed") {
    return function(name, [loop](Interpreter& in, const Args& args) {
      const auto same = [&](const Value& a, const Value& b) { return equal(in.meter(), a, b); };
      const bool changed =
          !loop->changed || !std::equal(args.positional.begin(), args.positional.end(),
                                        loop->changed->begin(), loop->changed->end(), same);
      if (changed) loop->changed = args.positional;
      return Value(changed);
    });
  }
  return std::nullopt;
}

std::vector<std::pair<Value, Value>> dict_items(Interpreter& in, const Args& args,
                                                const std::string& name) {
  std::vector<std::pair<Value, Value>> items;
  if (args.positional.size() > 1) fault("{} takes at most one argument without a name", name);
  if (!args.positional.empty()) {
    const auto& from = args.positional[0];
    if (from.dict()) {
      items = from.dict()->items;
    } else {
      for (const auto& one : iterate(in.meter(), from)) {
        const auto pair = iterate(in.meter(), one);
        if (pair.size() != 2) fault("{} needs pairs", name);
        items.emplace_back(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [key, value] : args.named) items.emplace_back(Value(std::string(key)), value);
  return items;
}

Value range(Interpreter& in, const Args& args) {
  constexpr int64_t most = 100'000;  // the sandbox's MAX_RANGE
  const Bound given = bind("range", args, {"", "", ""});
  if (!given[0]) fault("range needs an argument");
  const int64_t begin = given[1] ? whole_number(*given[0]) : 0;
  const int64_t end = whole_number(given[1] ? *given[1] : *given[0]);
  const int64_t step = given[2] ? whole_number(*given[2]) : 1;
  if (step == 0) fault("range's step must not be zero");
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (std::ssize(items) >= most) fault("a range of more than {} items", most);
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_sequence(in.meter(), std::move(items), Sequence::Kind::range);
}

Value date(Interpreter& in, const Args& args) {
  static constexpr std::string_view known = "aAbBcdDeFHIjmMnpRSTuUwWxXyY";
  const Bound given = bind("strftime_now", args, {"format"});
  if (!given[0]) fault("strftime_now needs a format");
  const auto& format = needed_text(*given[0]);
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const size_t length = i + 2 < format.size() && format[i + 1] == '-' ? 3 : 2;
    const std::string part = format.substr(i, length);
    i += part.size() - 1;
    if (part == "%%") {
      out += '%';
    } else if (part.size() < 2 || known.find(part.back()) == std::string_view::npos) {
      fault("'{}' in a date's format is not known", part);
    } else {
      std::array<char, 128> buffer{};
      out.append(buffer.data(),
                 std::strftime(buffer.data(), buffer.size(), part.c_str(), &in.now()));
    }
  }
  return make_text(in.meter(), std::move(out));
}

}  // namespace

std::vector<std::optional<Value>> bind(const std::string& name, const Args& args,
                                       const std::vector<std::string>& parameters) {
  Bound given(parameters.size());
  if (args.positional.size() > parameters.size()) {
    fault("'{}' takes at most {} arguments here, {} are given", name, parameters.size(),
          args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) given[i] = args.positional[i];
  for (const auto& [argument, value] : args.named) {
    const auto place = std::find(parameters.begin(), parameters.end(), argument);
    const auto i = static_cast<size_t>(place - parameters.begin());
    if (place == parameters.end()) fault("'{}' takes no argument '{}'", name, argument);
    if (given[i]) fault("'{}' got two values for '{}'", name, argument);
    given[i] = value;
  }
  return given;
}

int64_t whole_number(const Value& value) {
  const auto number = value.integer();
  if (!number) fault("expected an integer, got '{}'", type_name(value));
  return *number;
}

const std::string& needed_text(const Value& value) {
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
  if (!value.text()) fault("expected a str, got '{}'", type_name(value));
  return *value.text();
}

std::optional<Value> global(const std::string& name) {
  if (name == "range") return function(name, range);
  if (name == "dict") {
    return function(name, [](Interpreter& in, const Args& args) {
      return make_dict(in.meter(), dict_items(in, args, "dict"));
    });
  }
  if (name == "namespace") {
    return function(name, [](Interpreter& in, const Args& args) {
      std::vector<std::pair<std::string, Value>> items;
      const auto given = make_dict(in.meter(), dict_items(in, args, "namespace"));
      for (const auto& [key, value] : given.dict()->items)
        items.emplace_back(needed_text(key), value);
      return Value::of(in.make_namespace(std::move(items)));
    });
  }
  if (name == "raise_exception") {
    return function(name, [](Interpreter& in, const Args& args) -> Value {
      const Bound given = bind("raise_exception", args, {"message"});
      fault("the template refuses this conversation: {}",
            given[0] ? str(in.meter(), *given[0]) : "");
    });
  }
  if (name == "strftime_now") return function(name, date);
  if (name == "lipsum" || name == "cycler" || name == "joiner")
    return refused(name, "is not known");
  return std::nullopt;
}

std::optional<Value> member(Interpreter& in, const Value& value, const std::string& name) {
  if (value.text()) {
    const auto method = text_method(name);
    if (!method) return std::nullopt;
    if (value.as<Text>()->markup) return refused(name, "of markup is not known");
    return function(name, [value, method](Interpreter& inside, const Args& args) {
      return method(inside, *value.text(), args);
    });
  }
  if (value.dict()) return dict_member(value, name);
  if (value.sequence()) return list_member(value, name);
  if (const auto* loop = value.as<std::shared_ptr<Loop>>()) return loop_member(*loop, name);
  if (auto* const* space = value.as<Namespace*>()) {
    in.meter().spend(1 + std::ssize((*space)->items) / 8);
    for (const auto& [known, held] : (*space)->items) {
      if (known == name) return held;
    }
    return std::nullopt;
  }
  static const std::set<std::string> numeric = {
      "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
      "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
      "numerator",        "real",      "to_bytes"};
  if (value.number() && numeric.contains(name)) fault("'{}' of numbers is not known", name);
  if (value.as<std::shared_ptr<const Callable>>() && !name.starts_with("_")) {
    fault("'{}' of functions is not known", name);
  }
  return std::nullopt;
}

}  // namespace resurface::jinja
