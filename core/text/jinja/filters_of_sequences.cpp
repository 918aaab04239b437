#include "core/text/jinja/filters.h"
#include "core/text/jinja/strings.h"

namespace resurface::jinja {
namespace {

using Kind = Sequence::Kind;

bool given_true(const std::optional<Value>& value) { return value && truth(*value); }

/// The parts of "a.b.0".
std::vector<Value> path_of(const Value& attribute) {
  if (attribute.is_none()) return {};
  if (!attribute.text()) return {attribute};
  std::vector<Value> parts;
  for (auto& part : split_at(*attribute.text(), ".", -1, false)) {
    const bool number =
        !part.empty() && part.size() < 10 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number) {
      parts.emplace_back(int64_t{std::stoi(part)});
    } else {
      parts.emplace_back(std::move(part));
    }
  }
  return parts;
}

/// What stands at a path in a value; `otherwise` where there is nothing.
Value follow(Interpreter& in, Value value, const std::vector<Value>& path,
             const std::optional<Value>& otherwise = std::nullopt) {
  for (const auto& part : path) {
    value = in.item(value, part);
    if (value.is_undefined() && otherwise && !otherwise->is_none()) value = *otherwise;
  }
  return value;
}

/// What items are compared by: at a path, without their case unless it counts.
class Key {
 public:
  Key(Interpreter& in, const std::optional<Value>& attribute, bool case_counts)
      : in_(in), case_counts_(case_counts) {
    if (!attribute || !attribute->text()) {
      paths_.push_back(path_of(attribute.value_or(Value())));
      return;
    }
    for (auto& one : split_at(*attribute->text(), ",", -1, false))
      paths_.push_back(path_of(Value(std::move(one))));
  }
  Value operator()(const Value& item) const {
    std::vector<Value> keys;
    for (const auto& path : paths_) {
      auto key = follow(in_, item, path);
      if (!case_counts_ && key.text()) key = make_text(in_.meter(), lower(*key.text()));
      keys.push_back(std::move(key));
    }
    return keys.size() == 1 ? keys[0] : make_sequence(in_.meter(), std::move(keys));
  }

 private:
  Interpreter& in_;
  bool case_counts_;
  std::vector<std::vector<Value>> paths_;
};

Value sorted(Interpreter& in, std::vector<Value> items, const Key& key, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (auto& item : items) {
    auto k = key(item);
    if (k.is_undefined()) fault("{}", *k.as<Undefined>()->why);
    keyed.emplace_back(std::move(k), std::move(item));
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(in.meter(), b.first, a.first) : less(in.meter(), a.first, b.first);
  });
  items.clear();
  for (auto& [k, item] : keyed) items.push_back(std::move(item));
  return make_sequence(in.meter(), std::move(items));
}

Value sort(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("sort", args, {"reverse", "case_sensitive", "attribute"});
  return sorted(in, iterate(in.meter(), value), Key(in, given[2], given_true(given[1])),
                given_true(given[0]));
}

Value dictsort(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("dictsort", args, {"case_sensitive", "by", "reverse"});
  if (!value.dict()) fault("dictsort needs a dict, got '{}'", type_name(value));
  const std::string by = given[1] ? needed_text(*given[1]) : "key";
  if (by != "key" && by != "value") fault("dictsort goes by 'key' or 'value'");
  std::vector<Value> items;
  for (const auto& [key, held] : value.dict()->items)
    items.push_back(make_sequence(in.meter(), {key, held}, Kind::tuple));
  return sorted(in, std::move(items),
                Key(in, Value(int64_t{by == "key" ? 0 : 1}), given_true(given[0])),
                given_true(given[2]));
}

Value unique(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("unique", args, {"case_sensitive", "attribute"});
  const Key key(in, given[1], given_true(given[0]));
  std::vector<Value> seen, kept;
  for (auto& item : iterate(in.meter(), value)) {
    auto k = key(item);
    const auto known = [&](const Value& other) { return equal(in.meter(), other, k); };
    if (std::any_of(seen.begin(), seen.end(), known)) continue;
    seen.push_back(std::move(k));
    kept.push_back(std::move(item));
  }
  return make_sequence(in.meter(), std::move(kept), Kind::lazy);
}

template <bool largest>
Value extreme(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("max", args, {"case_sensitive", "attribute"});
  const Key key(in, given[1], given_true(given[0]));
  const auto items = iterate(in.meter(), value);
  if (items.empty()) return Value::undefined("no aggregated item, the sequence was empty");
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    const auto a = key(items[i]), b = key(items[best]);
    if (largest ? less(in.meter(), b, a) : less(in.meter(), a, b)) best = i;
  }
  return items[best];
}

Value sum(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("sum", args, {"attribute", "start"});
  auto total = given[1].value_or(Value(int64_t{0}));
  const auto path = path_of(given[0].value_or(Value()));
  for (auto& item : iterate(in.meter(), value))
    total = in.binary("+", total, follow(in, std::move(item), path));
  return total;
}

Value join(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("join", args, {"d", "attribute"});
  const std::string between = given[0] ? str(in.meter(), *given[0]) : "";
  const auto path = path_of(given[1].value_or(Value()));
  std::string all;
  bool first = true;
  for (auto& item : iterate(in.meter(), value)) {
    const auto text = str(in.meter(), follow(in, std::move(item), path));
    in.meter().make_text(all.size() + between.size() + text.size());
    if (!std::exchange(first, false)) all += between;
    all += text;
  }
  return Value(std::move(all));
}

Value first(Interpreter& in, const Value& value, const Args& args) {
  bind("first", args, {});
  const auto items = iterate(in.meter(), value);
  return items.empty() ? Value::undefined("no first item, the sequence was empty") : items[0];
}

Value last(Interpreter& in, const Value& value, const Args& args) {
  bind("last", args, {});
  if (value.sequence() && value.sequence()->kind == Kind::lazy) {
    fault("'generator' object is not reversible");
  }
  const auto items = iterate(in.meter(), value);
  return items.empty() ? Value::undefined("no last item, the sequence was empty") : items.back();
}

Value reverse(Interpreter& in, const Value& value, const Args& args) {
  bind("reverse", args, {});
  if (value.text()) {
    auto all = characters(*value.text());
    std::reverse(all.begin(), all.end());
    return make_text(in.meter(), utf8(all));
  }
  auto items = iterate(in.meter(), value);
  std::reverse(items.begin(), items.end());
  return make_sequence(in.meter(), std::move(items), Kind::lazy);
}

Value list(Interpreter& in, const Value& value, const Args& args) {
  bind("list", args, {});
  return make_sequence(in.meter(), iterate(in.meter(), value));
}

Value items_of(Interpreter& in, const Value& value, const Args& args) {
  bind("items", args, {});
  std::vector<Value> items;
  if (!value.is_undefined()) {
    if (!value.dict()) fault("can only get item pairs from a mapping, got '{}'", type_name(value));
    for (const auto& [key, held] : value.dict()->items)
      items.push_back(make_sequence(in.meter(), {key, held}, Kind::tuple));
  }
  return make_sequence(in.meter(), std::move(items), Kind::lazy);
}

/// Arguments after the first `count`.
Args rest_of(const Args& args, size_t count) {
  return {{args.positional.begin() + static_cast<int64_t>(count), args.positional.end()},
          args.named};
}

Value map(Interpreter& in, const Value& value, const Args& args) {
  std::vector<Value> results;
  // Of None, too, Jinja makes nothing, whatever the arguments are.
  if (!truth(value)) return make_sequence(in.meter(), {}, Kind::lazy);
  if (args.positional.empty()) {
    const Bound given = bind("map", args, {"attribute", "default"});
    if (!given[0]) fault("map needs a filter's name or attribute=...");
    const auto path = path_of(*given[0]);
    for (auto& item : iterate(in.meter(), value))
      results.push_back(follow(in, std::move(item), path, given[1]));
  } else {
    const auto& name = needed_text(args.positional[0]);
    const auto rest = rest_of(args, 1);
    for (const auto& item : iterate(in.meter(), value))
      results.push_back(in.filter(name, item, rest));
  }
  return make_sequence(in.meter(), std::move(results), Kind::lazy);
}

template <bool by_attribute, bool wanted>
Value chosen(Interpreter& in, const Value& value, const Args& args) {
  const size_t own = by_attribute ? 1 : 0;
  if (!truth(value)) return make_sequence(in.meter(), {}, Kind::lazy);
  if (args.positional.size() < own) fault("this filter needs an attribute");
  const auto path = by_attribute ? path_of(args.positional[0]) : std::vector<Value>();
  const bool tested = args.positional.size() > own;
  const std::string name = tested ? needed_text(args.positional[own]) : "";
  const auto rest = rest_of(args, tested ? own + 1 : own);
  std::vector<Value> kept;
  for (auto& item : iterate(in.meter(), value)) {
    const auto subject = follow(in, item, path);
    if ((tested ? in.test(name, subject, rest) : truth(subject)) == wanted) {
      kept.push_back(std::move(item));
    }
  }
  return make_sequence(in.meter(), std::move(kept), Kind::lazy);
}

Value count(Interpreter&, const Value& value, const Args& args) {
  bind("length", args, {});
  return Value(length(value));
}

}  // namespace

const std::map<std::string, Filter>& sequence_filters() {
  static const std::map<std::string, Filter> table = {{"count", count},
                                                      {"dictsort", dictsort},
                                                      {"first", first},
                                                      {"items", items_of},
                                                      {"join", join},
                                                      {"last", last},
                                                      {"length", count},
                                                      {"list", list},
                                                      {"map", map},
                                                      {"max", extreme<true>},
                                                      {"min", extreme<false>},
                                                      {"reject", chosen<false, false>},
                                                      {"rejectattr", chosen<true, false>},
                                                      {"reverse", reverse},
                                                      {"select", chosen<false, true>},
                                                      {"selectattr", chosen<true, true>},
                                                      {"sort", sort},
                                                      {"sum", sum},
                                                      {"unique", unique}};
  return table;
}

}  // namespace resurface::jinja
