#include "core/text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/text/jinja/strings.h"
#include "core/text/utf8.h"

namespace resurface::jinja {
namespace {

int64_t depth_of(const Value& value) {
  if (const auto* sequence = value.sequence()) return sequence->depth;
  if (const auto* dict = value.dict()) return dict->depth;
  return 0;
}

int64_t checked(Meter& meter, int64_t depth) {
  if (depth > meter.limits().nesting) {
    fault("lists and dicts are nested more than {} levels deep", meter.limits().nesting);
  }
  return depth;
}

[[noreturn]] void no_order(const Value& a, const Value& b) {
  fault("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b));
}

}  // namespace

const Sequence* Value::sequence() const {
  const auto* held = as<std::shared_ptr<const Sequence>>();
  return held ? held->get() : nullptr;
}

const Dict* Value::dict() const {
  const auto* held = as<std::shared_ptr<const Dict>>();
  return held ? held->get() : nullptr;
}

std::optional<int64_t> Value::integer() const {
  if (const auto* held = as<int64_t>()) return *held;
  if (const auto* held = as<bool>()) return *held ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const auto* held = as<double>()) return *held;
  if (const auto held = integer()) return static_cast<double>(*held);
  return std::nullopt;
}

Value make_text(Meter& meter, std::string text) {
  meter.make_text(text.size());
  return Value(std::move(text));
}

Value make_sequence(Meter& meter, std::vector<Value> items, Sequence::Kind kind) {
  meter.spend(1 + 2 * std::ssize(items));
  int64_t depth = 0;
  for (const auto& item : items) depth = std::max(depth, depth_of(item));
  depth = checked(meter, depth + 1);
  return Value::of(std::make_shared<const Sequence>(Sequence{kind, std::move(items), depth}));
}

Value make_dict(Meter& meter, std::vector<std::pair<Value, Value>> items) {
  Dict dict;
  for (auto& [key, value] : items) {
    if (key.dict() || (key.sequence() && key.sequence()->kind != Sequence::Kind::tuple)) {
      fault("unhashable type: '{}'", type_name(key));
    }
    if (const auto* known = find(meter, dict, key)) {
      *const_cast<Value*>(known) = std::move(value);
    } else {
      dict.depth = checked(meter, std::max(dict.depth, depth_of(value) + 1));
      dict.items.emplace_back(std::move(key), std::move(value));
    }
  }
  return Value::of(std::make_shared<const Dict>(std::move(dict)));
}

Value from_json(Meter& meter, const nlohmann::ordered_json& json) {
  const Meter::Level level(meter);
  meter.spend(1);
  switch (json.type()) {
    case nlohmann::json::value_t::null:
      return {};
    case nlohmann::json::value_t::boolean:
      return Value(json.get<bool>());
    case nlohmann::json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        fault("{}: integers beyond 64 bits are not known", json.dump());
      }
      return Value(json.get<int64_t>());
    case nlohmann::json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case nlohmann::json::value_t::number_float:
      return Value(json.get<double>());
    case nlohmann::json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (invalid_utf8(text) != std::string::npos) fault("a text is not valid UTF-8");
      return make_text(meter, text);
    }
    case nlohmann::json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(meter, item));
      return make_sequence(meter, std::move(items));
    }
    case nlohmann::json::value_t::object: {
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, item] : json.items()) {
        if (invalid_utf8(key) != std::string::npos) fault("a key is not valid UTF-8");
        items.emplace_back(make_text(meter, key), from_json(meter, item));
      }
      return make_dict(meter, std::move(items));
    }
    default:
      fault("a value of type {} has no place in a template", json.type_name());
  }
}

std::string type_name(const Value& value) {
  struct Name {
    std::string operator()(const None&) const { return "NoneType"; }
    std::string operator()(const Undefined&) const { return "Undefined"; }
    std::string operator()(bool) const { return "bool"; }
    std::string operator()(int64_t) const { return "int"; }
    std::string operator()(double) const { return "float"; }
    std::string operator()(const Text& text) const { return text.markup ? "Markup" : "str"; }
    std::string operator()(const std::shared_ptr<const Sequence>& sequence) const {
      switch (sequence->kind) {
        case Sequence::Kind::list:
          return "list";
        case Sequence::Kind::tuple:
          return "tuple";
        case Sequence::Kind::lazy:
          return "generator";
        case Sequence::Kind::view:
          return "dict_view";
        case Sequence::Kind::range:
          return "range";
      }
      return "?";
    }
    std::string operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
    std::string operator()(Namespace*) const { return "Namespace"; }
    std::string operator()(const std::shared_ptr<Loop>&) const { return "LoopContext"; }
    std::string operator()(const std::shared_ptr<const Callable>&) const { return "function"; }
  };
  return std::visit(Name{}, value.data);
}

bool truth(const Value& value) {
  if (value.is_none() || value.is_undefined()) return false;
  if (const auto* held = value.as<bool>()) return *held;
  if (const auto number = value.number()) return *number != 0;
  if (const auto* text = value.text()) return !text->empty();
  if (const auto* dict = value.dict()) return !dict->items.empty();
  if (const auto* sequence = value.sequence()) {
    return sequence->kind == Sequence::Kind::lazy || !sequence->items.empty();
  }
  return true;
}

bool equal(Meter& meter, const Value& a, const Value& b) {
  meter.spend(1);
  if (a.number() && b.number()) {
    const auto left = a.integer(), right = b.integer();
    return left && right ? *left == *right : *a.number() == *b.number();
  }
  if (a.data.index() != b.data.index()) return false;
  if (a.is_none() || a.is_undefined()) return true;
  if (const auto* text = a.text()) {
    meter.spend(static_cast<int64_t>(std::min(text->size(), b.text()->size())) / 64);
    return *text == *b.text();
  }
  if (const auto* left = a.sequence()) {
    const auto* right = b.sequence();
    if (left == right) return true;
    const bool comparable =
        left->kind != Sequence::Kind::lazy && left->kind != Sequence::Kind::view;
    if (left->kind != right->kind || !comparable) return false;
    return std::equal(left->items.begin(), left->items.end(), right->items.begin(),
                      right->items.end(),
                      [&](const Value& x, const Value& y) { return equal(meter, x, y); });
  }
  if (const auto* left = a.dict()) {
    const auto* right = b.dict();
    if (left == right) return true;
    if (left->items.size() != right->items.size()) return false;
    return std::all_of(left->items.begin(), left->items.end(), [&](const auto& item) {
      const auto* other = find(meter, *right, item.first);
      return other && equal(meter, item.second, *other);
    });
  }
  if (const auto* space = a.as<Namespace*>()) return *space == *b.as<Namespace*>();
  if (const auto* loop = a.as<std::shared_ptr<Loop>>())
    return *loop == *b.as<std::shared_ptr<Loop>>();
  return *a.as<std::shared_ptr<const Callable>>() == *b.as<std::shared_ptr<const Callable>>();
}

bool less(Meter& meter, const Value& a, const Value& b) {
  meter.spend(1);
  if (a.number() && b.number()) {
    const auto left = a.integer(), right = b.integer();
    return left && right ? *left < *right : *a.number() < *b.number();
  }
  // The order of UTF-8's bytes is that of the code points.
  if (a.text() && b.text()) return *a.text() < *b.text();
  const auto *left = a.sequence(), *right = b.sequence();
  if (!left || !right || left->kind != right->kind || left->kind > Sequence::Kind::tuple) {
    no_order(a, b);
  }
  for (size_t i = 0; i < std::min(left->items.size(), right->items.size()); ++i) {
    if (!equal(meter, left->items[i], right->items[i]))
      return less(meter, left->items[i], right->items[i]);
  }
  return left->items.size() < right->items.size();
}

const Value* find(Meter& meter, const Dict& dict, const Value& key) {
  for (const auto& [known, value] : dict.items) {
    if (equal(meter, known, key)) return &value;
  }
  return nullptr;
}

bool contains(Meter& meter, const Value& container, const Value& item) {
  if (const auto* text = container.text()) {
    const auto* part = item.text();
    if (!part) fault("'in <string>' requires string as left operand, not {}", type_name(item));
    meter.spend(static_cast<int64_t>(text->size()) / 64);
    return find_text(*text, *part) != std::string::npos;
  }
  if (const auto* dict = container.dict()) return find(meter, *dict, item) != nullptr;
  const auto items = iterate(meter, container);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& one) { return equal(meter, one, item); });
}

std::vector<Value> iterate(Meter& meter, const Value& value) {
  if (value.is_undefined()) return {};
  if (const auto* sequence = value.sequence()) {
    meter.spend(std::ssize(sequence->items));
    if (sequence->kind != Sequence::Kind::lazy) return sequence->items;
    if (std::exchange(sequence->used, true)) return {};
    return sequence->items;
  }
  std::vector<Value> items;
  if (const auto* dict = value.dict()) {
    meter.spend(std::ssize(dict->items));
    for (const auto& [key, held] : dict->items) items.push_back(key);
    return items;
  }
  if (const auto* text = value.text()) {
    meter.spend(8 * std::ssize(*text));
    for (const char32_t c : characters(*text)) items.emplace_back(utf8(Characters(1, c)));
    return items;
  }
  if (const auto* loop = value.as<std::shared_ptr<Loop>>()) {
    static_cast<void>(loop);
    fault("going through 'loop' itself is not known");
  }
  fault("'{}' object is not iterable", type_name(value));
}

int64_t length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (const auto* text = value.text()) return static_cast<int64_t>(count_characters(*text));
  if (const auto* dict = value.dict()) return std::ssize(dict->items);
  const auto* sequence = value.sequence();
  if (!sequence || sequence->kind == Sequence::Kind::lazy) {
    fault("object of type '{}' has no len()", type_name(value));
  }
  return std::ssize(sequence->items);
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  const int exponent = [&] {
    std::array<char, 40> buffer{};
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                   std::chars_format::scientific)
                         .ptr;
    const std::string shortest(buffer.data(), end);
    return std::stoi(shortest.substr(shortest.find('e') + 1));
  }();
  std::array<char, 400> buffer{};
  const bool plain = exponent >= -4 && exponent < 16;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(buffer.data(), end);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace resurface::jinja
