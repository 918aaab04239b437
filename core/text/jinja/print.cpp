// Values as text: str(), repr() and json.dumps().
#include <cmath>

#include "core/text/jinja/strings.h"
#include "core/text/jinja/value.h"

namespace resurface::jinja {
namespace {

void represent(Meter& meter, const Value& value, std::string& out);

void represent_all(Meter& meter, const std::vector<Value>& items, std::string& out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    represent(meter, items[i], out);
  }
}

void represent(Meter& meter, const Value& value, std::string& out) {
  const size_t before = out.size();
  if (value.is_none()) {
    out += "None";
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (const auto* flag = value.as<bool>()) {
    out += *flag ? "True" : "False";
  } else if (const auto* number = value.as<int64_t>()) {
    out += std::to_string(*number);
  } else if (const auto* real = value.as<double>()) {
    out += float_text(*real);
  } else if (const auto* text = value.text()) {
    out += value.as<Text>()->markup ? fmt::format("Markup({})", jinja::quoted(*text))
                                    : jinja::quoted(*text);
  } else if (const auto* dict = value.dict()) {
    out += "{";
    for (size_t i = 0; i < dict->items.size(); ++i) {
      if (i > 0) out += ", ";
      represent(meter, dict->items[i].first, out);
      out += ": ";
      represent(meter, dict->items[i].second, out);
    }
    out += "}";
  } else if (const auto* sequence = value.sequence();
             sequence && sequence->kind == Sequence::Kind::list) {
    out += "[";
    represent_all(meter, sequence->items, out);
    out += "]";
  } else if (sequence && sequence->kind == Sequence::Kind::tuple) {
    out += "(";
    represent_all(meter, sequence->items, out);
    out += sequence->items.size() == 1 ? ",)" : ")";
  } else {
    fault("printing a {} is not known", type_name(value));
  }
  meter.make_text(out.size() - std::min(before, out.size()));
  if (out.size() > static_cast<size_t>(meter.limits().text)) meter.make_text(out.size());
}

class JsonWriter {
 public:
  JsonWriter(Meter& meter, const JsonStyle& style) : meter_(meter), style_(style) {}

  void write(const Value& value) {
    if (value.is_none()) {
      out_ += "null";
    } else if (const auto* flag = value.as<bool>()) {
      out_ += *flag ? "true" : "false";
    } else if (value.number()) {
      out_ += scalar(value);
    } else if (const auto* text = value.text()) {
      out_ += json_quoted(*text, style_.ascii);
    } else if (const auto* sequence = value.sequence();
               sequence && sequence->kind <= Sequence::Kind::tuple) {
      between('[', ']', sequence->items, [&](const Value& item) { write(item); });
    } else if (const auto* dict = value.dict()) {
      std::vector<const std::pair<Value, Value>*> items;
      for (const auto& item : dict->items) items.push_back(&item);
      if (style_.sort_keys) {
        std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) {
          return less(meter_, a->first, b->first);
        });
      }
      between('{', '}', items, [&](const std::pair<Value, Value>* item) {
        out_ += key(item->first) + style_.key;
        write(item->second);
      });
    } else {
      fault("Object of type {} is not JSON serializable", type_name(value));
    }
    meter_.make_text(0);
    if (out_.size() > static_cast<size_t>(meter_.limits().text)) meter_.make_text(out_.size());
  }

  std::string take() { return std::move(out_); }

 private:
  template <class Items, class Write>
  void between(char open, char close, const Items& items, Write&& write_item) {
    out_ += open;
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item;
      line();
      write_item(items[i]);
    }
    --level_;
    if (!items.empty()) line();
    out_ += close;
  }

  void line() {
    if (!style_.indent) return;
    meter_.make_text(style_.indent->size() * level_);
    out_ += '\n';
    for (size_t i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  static std::string scalar(const Value& value) {
    if (const auto* real = value.as<double>()) {
      if (std::isnan(*real)) return "NaN";
      if (std::isinf(*real)) return *real > 0 ? "Infinity" : "-Infinity";
      return float_text(*real);
    }
    return std::to_string(*value.integer());
  }

  std::string key(const Value& value) const {
    if (const auto* text = value.text()) return json_quoted(*text, style_.ascii);
    if (value.is_none()) return "\"null\"";
    if (const auto* flag = value.as<bool>()) return *flag ? "\"true\"" : "\"false\"";
    if (value.number()) return '"' + scalar(value) + '"';
    fault("keys must be str, int, float, bool or None, not {}", type_name(value));
  }

  Meter& meter_;
  const JsonStyle& style_;
  std::string out_;
  size_t level_ = 0;
};

}  // namespace

std::string repr(Meter& meter, const Value& value) {
  std::string out;
  represent(meter, value, out);
  return out;
}

std::string str(Meter& meter, const Value& value) {
  if (const auto* text = value.text()) return *text;
  if (value.is_undefined()) return "";
  return repr(meter, value);
}

std::string to_json(Meter& meter, const Value& value, const JsonStyle& style) {
  JsonWriter writer(meter, style);
  writer.write(value);
  auto text = writer.take();
  meter.make_text(text.size());
  return text;
}

}  // namespace resurface::jinja
