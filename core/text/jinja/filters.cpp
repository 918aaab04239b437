#include "core/text/jinja/filters.h"

#include <charconv>
#include <cmath>
#include <set>

#include "core/text/jinja/parser.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/text_methods.h"

namespace resurface::jinja {
namespace {

template <std::string (*change)(std::string_view)>
Value changed(Interpreter& in, const Value& value, const Args& args) {
  bind("upper", args, {});
  return make_text(in.meter(), change(str(in.meter(), value)));
}

/// The filter `title` begins words elsewhere than str.title() does.
std::string titled(std::string_view text) {
  static constexpr std::u32string_view before = U"-({[<";
  Characters word;
  std::string result;
  const auto flush = [&] {
    if (word.empty()) return;
    result += upper(utf8(word.substr(0, 1))) + lower(utf8(word.substr(1)));
    word.clear();
  };
  for (const char32_t c : characters(text)) {
    if (is_space(c) || before.find(c) != std::u32string_view::npos) {
      flush();
      result += utf8(Characters(1, c));
    } else {
      word += c;
    }
  }
  flush();
  return result;
}

Value trim(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("trim", args, {"chars"});
  const bool set = given[0] && !given[0]->is_none();
  return make_text(in.meter(), strip(str(in.meter(), value), true, true,
                                     set ? &needed_text(*given[0]) : nullptr));
}

Value replace(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("replace", args, {"old", "new", "count"});
  if (!given[0] || !given[1]) fault("replace needs two arguments");
  const bool all = !given[2] || given[2]->is_none();
  return make_text(in.meter(),
                   replaced(in.meter(), str(in.meter(), value), str(in.meter(), *given[0]),
                            str(in.meter(), *given[1]), all ? -1 : whole_number(*given[2])));
}

Value indent(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("indent", args, {"width", "first", "blank"});
  std::string pad(4, ' ');
  if (given[0] && given[0]->text()) {
    pad = *given[0]->text();
  } else if (given[0]) {
    const auto width = std::max(int64_t{0}, whole_number(*given[0]));
    in.meter().make_text(static_cast<size_t>(width));
    pad = std::string(static_cast<size_t>(width), ' ');
  }
  const bool blank = given[2] && truth(*given[2]);
  std::string result = given[1] && truth(*given[1]) ? pad : "";
  // Jinja adds a newline, so that a text that ends in one keeps it.
  const auto lines = split_lines(needed_text(value) + "\n");
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += "\n";
    if (i > 0 && (blank || !lines[i].empty())) {
      in.meter().make_text(result.size() + pad.size());
      result += pad;
    }
    result += lines[i];
  }
  return make_text(in.meter(), std::move(result));
}

Value center(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("center", args, {"width"});
  return make_text(in.meter(), centered(in.meter(), str(in.meter(), value),
                                        given[0] ? whole_number(*given[0]) : 80, ' '));
}

Value format(Interpreter& in, const Value& value, const Args& args) {
  if (!args.named.empty()) fault("format with named arguments is not known");
  return make_text(in.meter(), percent_format(in.meter(), str(in.meter(), value),
                                              make_sequence(in.meter(), args.positional,
                                                            Sequence::Kind::tuple)));
}

Value string(Interpreter& in, const Value& value, const Args& args) {
  bind("string", args, {});
  return value.text() ? value : make_text(in.meter(), str(in.meter(), value));
}

template <bool escapes>
Value markup(Interpreter& in, const Value& value, const Args& args) {
  bind("safe", args, {});
  if (value.text() && value.as<Text>()->markup) return value;
  auto text = str(in.meter(), value);
  if (escapes) text = html_escaped(text);
  in.meter().make_text(text.size());
  return Value::of(Text{std::make_shared<const std::string>(std::move(text)), true});
}

Value otherwise(Interpreter&, const Value& value, const Args& args) {
  const Bound given = bind("default", args, {"default_value", "boolean"});
  const bool falsy = given[1] && truth(*given[1]) && !truth(value);
  return value.is_undefined() || falsy ? given[0].value_or(Value(std::string())) : value;
}

/// As Python's float() reads it.
std::optional<double> real_of(const std::string& text) {
  std::string digits;
  auto plain = lower(strip(text, true, true));
  const bool negative = plain.starts_with('-');
  if (negative || plain.starts_with('+')) plain.erase(0, 1);
  if (plain == "inf" || plain == "infinity") return negative ? -INFINITY : INFINITY;
  if (plain == "nan") return NAN;
  for (size_t i = 0; i < plain.size(); ++i) {
    const bool joins = plain[i] == '_' && i > 0 && i + 1 < plain.size() &&
                       std::isdigit(static_cast<uint8_t>(plain[i - 1])) &&
                       std::isdigit(static_cast<uint8_t>(plain[i + 1]));
    if (!joins) digits += plain[i];
  }
  if (digits.find_first_not_of("0123456789.e+-") != std::string::npos) return std::nullopt;
  if (digits.find_first_of("0123456789") > 1) return std::nullopt;
  double value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end.ptr != digits.data() + digits.size()) return std::nullopt;
  if (end.ec == std::errc::result_out_of_range) value = std::strtod(digits.c_str(), nullptr);
  return negative ? -value : value;
}

Value whole_of(double value) {
  if (std::abs(value) >= 9.2e18) fault("integers beyond 64 bits are not known");
  return Value(static_cast<int64_t>(value));
}

Value integer(Interpreter&, const Value& value, const Args& args) {
  const Bound given = bind("int", args, {"default", "base"});
  auto fallback = given[0].value_or(Value(int64_t{0}));
  if (given[1] && (!given[1]->integer() || *given[1]->integer() != 10)) {
    fault("int with a base other than 10 is not known");
  }
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
  if (value.integer()) return Value(*value.integer());
  auto number = value.number();
  if (value.text()) {
    const auto text = strip(*value.text(), true, true);
    int64_t exact = 0;
    const size_t sign = text.starts_with('+') ? 1 : 0;
    const auto* end = text.data() + text.size();
    const auto read = std::from_chars(text.data() + sign, end, exact);
    if (read.ec == std::errc() && read.ptr == end && !text.starts_with("+-")) return Value(exact);
    number = real_of(text);
  }
  if (!number || !std::isfinite(*number)) return fallback;
  return whole_of(*number);
}

Value real(Interpreter&, const Value& value, const Args& args) {
  const Bound given = bind("float", args, {"default"});
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
  auto number = value.number();
  if (value.text()) number = real_of(*value.text());
  return number ? Value(*number) : given[0].value_or(Value(0.0));
}

Value absolute(Interpreter& in, const Value& value, const Args& args) {
  bind("abs", args, {});
  if (!value.number()) fault("bad operand type for abs(): '{}'", type_name(value));
  if (const auto whole = value.integer()) {
    return *whole < 0 ? in.binary("-", Value(int64_t{0}), value) : Value(*whole);
  }
  return Value(std::abs(*value.number()));
}

Value rounded(Interpreter&, const Value& value, const Args& args) {
  const Bound given = bind("round", args, {"precision", "method"});
  const int64_t digits = given[0] ? whole_number(*given[0]) : 0;
  const std::string method = given[1] ? needed_text(*given[1]) : "common";
  if (!value.number()) fault("round needs a number, got '{}'", type_name(value));
  if (digits < 0 || digits > 300) fault("round to {} digits is not known", digits);
  if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(digits));
    const double scaled = *value.number() * scale;
    return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (method != "common") fault("round's method is common, ceil or floor");
  if (value.integer()) return Value(*value.integer());
  const auto text = fmt::format("{:.{}f}", *value.number(), digits);
  return Value(std::strtod(text.c_str(), nullptr));
}

Value tojson(Interpreter& in, const Value& value, const Args& args) {
  const Bound given = bind("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = given[0] && truth(*given[0]);
  style.sort_keys = given[3] && truth(*given[3]);
  if (given[1] && !given[1]->is_none()) {
    if (given[1]->text()) {
      style.indent = *given[1]->text();
    } else {
      const auto width = std::max(int64_t{0}, whole_number(*given[1]));
      in.meter().make_text(static_cast<size_t>(width));
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
    style.item = ",";
  }
  if (given[2] && !given[2]->is_none()) {
    const auto pair = iterate(in.meter(), *given[2]);
    if (pair.size() != 2) fault("tojson's separators are two");
    style.item = needed_text(pair[0]);
    style.key = needed_text(pair[1]);
  }
  return make_text(in.meter(), to_json(in.meter(), value, style));
}

const std::map<std::string, Filter>& filters() {
  static const auto table = [] {
    std::map<std::string, Filter> all = {{"abs", absolute},
                                         {"capitalize", changed<capitalize>},
                                         {"center", center},
                                         {"d", otherwise},
                                         {"default", otherwise},
                                         {"e", markup<true>},
                                         {"escape", markup<true>},
                                         {"float", real},
                                         {"format", format},
                                         {"indent", indent},
                                         {"int", integer},
                                         {"lower", changed<lower>},
                                         {"replace", replace},
                                         {"round", rounded},
                                         {"safe", markup<false>},
                                         {"string", string},
                                         {"title", changed<titled>},
                                         {"tojson", tojson},
                                         {"trim", trim},
                                         {"upper", changed<upper>}};
    all.insert(sequence_filters().begin(), sequence_filters().end());
    return all;
  }();
  return table;
}

}  // namespace

bool is_filter(const std::string& name) { return filters().contains(name); }

Value Interpreter::filter(const std::string& name, const Value& value, const Args& args) {
  static const std::set<std::string> of_markup = {"safe",   "e",      "escape",  "string",
                                                  "tojson", "length", "default", "d"};
  const auto found = filters().find(name);
  if (found == filters().end()) fault("the filter '{}' is not known", name);
  if (value.text() && value.as<Text>()->markup && !of_markup.contains(name)) {
    fault("the filter '{}' of markup is not known", name);
  }
  return found->second(*this, value, args);
}

std::string percent_format(Meter& meter, const std::string& format, const Value& values) {
  const auto* tuple = values.sequence();
  const bool several = tuple && tuple->kind == Sequence::Kind::tuple;
  const std::vector<Value> given = several ? tuple->items : std::vector<Value>{values};
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    size_t end = i + 1;
    int precision = -1;
    if (end < format.size() && format[end] == '.') {
      precision = 0;
      const auto digit = [&] {
        return end < format.size() && format[end] >= '0' && format[end] <= '9';
      };
      for (++end; digit() && precision < 100; ++end) {
        precision = precision * 10 + (format[end] - '0');
      }
    }
    const char kind = end < format.size() ? format[end] : '\0';
    const bool known = kind == 'f' ? precision < 100 : precision < 0;
    if (!known || std::string_view("%sdirf").find(kind) == std::string_view::npos || !kind) {
      fault("'{}' in a format is not known", format.substr(i, end + 1 - i));
    }
    i = end;
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (used >= given.size()) fault("not enough arguments for the format");
    const auto& value = given[used++];
    if (kind == 's') {
      out += str(meter, value);
    } else if (kind == 'r') {
      out += repr(meter, value);
    } else if (!value.number() || !std::isfinite(*value.number())) {
      fault("a number is needed in the format, got '{}'", type_name(value));
    } else if (kind == 'f') {
      out += fmt::format("{:.{}f}", *value.number(), precision < 0 ? 6 : precision);
    } else {
      out +=
          std::to_string(value.integer() ? *value.integer() : *whole_of(*value.number()).integer());
    }
    if (out.size() > static_cast<size_t>(meter.limits().text)) meter.make_text(out.size());
  }
  if (used < given.size() && (several || !values.dict())) {
    fault("not all arguments were used by the format");
  }
  return out;
}

}  // namespace resurface::jinja
