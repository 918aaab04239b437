#include "core/text/jinja/text_methods.h"

#include <unicode/uchar.h>

#include <map>

#include "core/text/jinja/strings.h"

namespace resurface::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

const std::string* optional_text(const std::optional<Value>& value) {
  return value && !value->is_none() ? &needed_text(*value) : nullptr;
}

int64_t optional_whole(const std::optional<Value>& value, int64_t otherwise) {
  return value ? whole_number(*value) : otherwise;
}

Value texts(Meter& meter, std::vector<std::string> parts, Sequence::Kind kind) {
  std::vector<Value> items;
  for (auto& part : parts) items.push_back(make_text(meter, std::move(part)));
  return make_sequence(meter, std::move(items), kind);
}

int64_t occurrences(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = 0; (at = find_text(text, part, at)) != std::string::npos; at += part.size())
    ++count;
  return count;
}

template <bool left, bool right>
Value stripped(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("strip", args, {""});
  return make_text(in.meter(), strip(text, left, right, optional_text(given[0])));
}

template <bool from_right>
Value split(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("split", args, {"sep", "maxsplit"});
  const auto* separator = optional_text(given[0]);
  const int64_t most = optional_whole(given[1], -1);
  in.meter().make_text(text.size());
  if (!separator) {
    in.meter().spend(std::ssize(text));
    return texts(in.meter(), split_words(text, most, from_right), Sequence::Kind::list);
  }
  if (separator->empty()) fault("empty separator");
  in.meter().spend(8 + 8 * occurrences(text, *separator));
  return texts(in.meter(), split_at(text, *separator, most, from_right), Sequence::Kind::list);
}

template <bool from_right>
Value partition(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("partition", args, {""});
  if (!given[0] || needed_text(*given[0]).empty()) fault("partition needs a separator");
  const auto& separator = needed_text(*given[0]);
  const auto at = from_right ? find_last(text, separator) : find_text(text, separator);
  std::vector<std::string> parts = {text.substr(0, at), "", ""};
  if (at == std::string::npos) {
    if (from_right) std::swap(parts[0], parts[2]);
  } else {
    parts[1] = separator;
    parts[2] = text.substr(at + separator.size());
  }
  return texts(in.meter(), std::move(parts), Sequence::Kind::tuple);
}

template <bool at_start>
Value fits(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("startswith", args, {""});
  if (!given[0]) fault("startswith and endswith need an argument");
  const auto one = [&](const Value& part) {
    return Value(at_start ? text.starts_with(needed_text(part))
                          : text.ends_with(needed_text(part)));
  };
  const auto* several = given[0]->sequence();
  if (!several || several->kind != Sequence::Kind::tuple) return one(*given[0]);
  in.meter().spend(std::ssize(several->items));
  const auto holds = [&](const Value& part) { return truth(one(part)); };
  return Value(std::any_of(several->items.begin(), several->items.end(), holds));
}

enum class Search { find, rfind, index, count };

template <Search search>
Value searched(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("find", args, {""});
  if (!given[0]) fault("find, rfind, index and count need an argument");
  const auto& part = needed_text(*given[0]);
  in.meter().make_text(text.size());
  if constexpr (search == Search::count) {
    if (part.empty()) return Value(static_cast<int64_t>(count_characters(text)) + 1);
    return Value(occurrences(text, part));
  }
  const auto at = search == Search::rfind ? find_last(text, part) : find_text(text, part);
  if (at != std::string::npos) {
    return Value(static_cast<int64_t>(count_characters(std::string_view(text).substr(0, at))));
  }
  if (search == Search::index) fault("substring not found");
  return Value(int64_t{-1});
}

template <bool at_start>
Value without(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("removeprefix", args, {""});
  if (!given[0]) fault("removeprefix and removesuffix need an argument");
  const auto& part = needed_text(*given[0]);
  if (at_start) {
    return make_text(in.meter(), text.starts_with(part) ? text.substr(part.size()) : text);
  }
  return make_text(in.meter(),
                   text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text);
}

template <std::string (*change)(std::string_view)>
Value changed(Interpreter& in, const std::string& text, const Args& args) {
  bind("upper", args, {});
  return make_text(in.meter(), change(text));
}

template <auto is>
Value all_are(Interpreter& in, const std::string& text, const Args& args) {
  bind("isdigit", args, {});
  in.meter().make_text(text.size());
  const auto all = characters(text);
  return Value(!all.empty() && std::all_of(all.begin(), all.end(), is));
}

int32_t numeric_type(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
}
bool is_decimal(char32_t c) { return numeric_type(c) == U_NT_DECIMAL; }
bool is_digit(char32_t c) { return is_decimal(c) || numeric_type(c) == U_NT_DIGIT; }
bool is_numeric(char32_t c) { return numeric_type(c) != U_NT_NONE; }
bool is_letter(char32_t c) { return u_isalpha(static_cast<UChar32>(c)); }
bool is_alphanumeric(char32_t c) { return is_letter(c) || is_numeric(c); }

template <bool upper_case>
Value all_cased(Interpreter& in, const std::string& text, const Args& args) {
  bind("isupper", args, {});
  in.meter().make_text(text.size());
  bool some = false;
  for (const char32_t c : characters(text)) {
    const auto point = static_cast<UChar32>(c);
    const bool is_upper = u_isUUppercase(point), is_lower = u_isULowercase(point);
    if ((upper_case ? is_lower : is_upper) || u_istitle(point)) return Value(false);
    some = some || is_upper || is_lower;
  }
  return Value(some);
}

enum class Side { left, right, both };

template <Side side>
Value justified(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("ljust", args, {"", ""});
  if (!given[0]) fault("ljust, rjust and center need a width");
  const auto* fill = given[1] ? &needed_text(*given[1]) : nullptr;
  if (fill && fill->size() != 1) fault("a fill that is not one ASCII character is not known");
  const char c = fill ? (*fill)[0] : ' ';
  const int64_t width = whole_number(*given[0]);
  if (side == Side::both) return make_text(in.meter(), centered(in.meter(), text, width, c));
  const auto missing = std::max(int64_t{0}, width - static_cast<int64_t>(count_characters(text)));
  in.meter().make_text(static_cast<size_t>(missing));
  const std::string pad(static_cast<size_t>(missing), c);
  return make_text(in.meter(), side == Side::left ? text + pad : pad + text);
}

Value join(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("join", args, {""});
  if (!given[0]) fault("join needs an argument");
  if (given[0]->is_undefined()) return Value(std::string());
  std::string all;
  bool first = true;
  for (const auto& item : iterate(in.meter(), *given[0])) {
    const auto& part = needed_text(item);
    in.meter().make_text(all.size() + text.size() + part.size());
    if (!std::exchange(first, false)) all += text;
    all += part;
  }
  return Value(std::move(all));
}

Value replace(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("replace", args, {"", "", "count"});
  if (!given[1]) fault("replace needs two arguments");
  return make_text(in.meter(), replaced(in.meter(), text, needed_text(*given[0]),
                                        needed_text(*given[1]), optional_whole(given[2], -1)));
}

Value lines(Interpreter& in, const std::string& text, const Args& args) {
  const Bound given = bind("splitlines", args, {"keepends"});
  in.meter().make_text(text.size());
  return texts(in.meter(), split_lines(text, given[0] && truth(*given[0])), Sequence::Kind::list);
}

/// Fields are {}, {0} and {name}; what a field can have beside these is not known.
Value format(Interpreter& in, const std::string& text, const Args& args) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == c) {
      out += text[i++];
      continue;
    }
    const auto end = text.find('}', i);
    if (c == '}' || end == std::string::npos) fault("a single '{}' in a format", c);
    const std::string field = text.substr(i + 1, end - i - 1);
    i = end;
    const auto named = std::find_if(args.named.begin(), args.named.end(),
                                    [&](const auto& one) { return one.first == field; });
    const bool digit = field.size() == 1 && field[0] >= '0' && field[0] <= '9';
    const size_t place = digit ? static_cast<size_t>(field[0] - '0') : next;
    if (named != args.named.end()) {
      out += str(in.meter(), named->second);
    } else if ((field.empty() || digit) && place < args.positional.size()) {
      out += str(in.meter(), args.positional[place]);
      next = place + (digit ? 0 : 1);
    } else {
      fault("the field '{{{}}}' of a format is not known", field);
    }
    if (out.size() > static_cast<size_t>(in.meter().limits().text))
      in.meter().make_text(out.size());
  }
  return make_text(in.meter(), std::move(out));
}

Value not_known(Interpreter&, const std::string&, const Args&) {
  fault("this method of str is not known");
}

}  // namespace

std::string replaced(Meter& meter, const std::string& text, const std::string& old,
                     const std::string& with, int64_t count) {
  std::string all;
  meter.make_text(text.size());
  if (old.empty()) {
    bool first = true;
    int64_t done = 0;
    for (const char32_t c : characters(text)) {
      if (count < 0 || done++ < count) all += with;
      meter.make_text(first ? all.size() : with.size());
      first = false;
      all += utf8(Characters(1, c));
      if (all.size() > static_cast<size_t>(meter.limits().text)) meter.make_text(all.size());
    }
    if (count < 0 || done < count) all += with;
    return all;
  }
  size_t begin = 0;
  for (int64_t done = 0; count < 0 || done < count; ++done) {
    const auto at = find_text(text, old, begin);
    if (at == std::string::npos) break;
    all.append(text, begin, at - begin).append(with);
    meter.spend(1 + static_cast<int64_t>(with.size()) / 16);
    if (all.size() > static_cast<size_t>(meter.limits().text)) meter.make_text(all.size());
    begin = at + old.size();
  }
  return all.append(text, begin);
}

std::string centered(Meter& meter, const std::string& text, int64_t width, char fill) {
  const auto missing = width - static_cast<int64_t>(count_characters(text));
  if (missing <= 0) return text;
  meter.make_text(static_cast<size_t>(missing));
  const int64_t left = missing / 2 + (missing & width & 1);
  return std::string(static_cast<size_t>(left), fill) + text +
         std::string(static_cast<size_t>(missing - left), fill);
}

TextMethod text_method(const std::string& name) {
  static const std::map<std::string, TextMethod> methods = {{"capitalize", changed<capitalize>},
                                                            {"casefold", not_known},
                                                            {"center", justified<Side::both>},
                                                            {"count", searched<Search::count>},
                                                            {"encode", not_known},
                                                            {"endswith", fits<false>},
                                                            {"expandtabs", not_known},
                                                            {"find", searched<Search::find>},
                                                            {"format", format},
                                                            {"format_map", not_known},
                                                            {"index", searched<Search::index>},
                                                            {"isalnum", all_are<is_alphanumeric>},
                                                            {"isalpha", all_are<is_letter>},
                                                            {"isascii", not_known},
                                                            {"isdecimal", all_are<is_decimal>},
                                                            {"isdigit", all_are<is_digit>},
                                                            {"isidentifier", not_known},
                                                            {"islower", all_cased<false>},
                                                            {"isnumeric", all_are<is_numeric>},
                                                            {"isprintable", not_known},
                                                            {"isspace", all_are<is_space>},
                                                            {"istitle", not_known},
                                                            {"isupper", all_cased<true>},
                                                            {"join", join},
                                                            {"ljust", justified<Side::left>},
                                                            {"lower", changed<lower>},
                                                            {"lstrip", stripped<true, false>},
                                                            {"maketrans", not_known},
                                                            {"partition", partition<false>},
                                                            {"removeprefix", without<true>},
                                                            {"removesuffix", without<false>},
                                                            {"replace", replace},
                                                            {"rfind", searched<Search::rfind>},
                                                            {"rindex", not_known},
                                                            {"rjust", justified<Side::right>},
                                                            {"rpartition", partition<true>},
                                                            {"rsplit", split<true>},
                                                            {"rstrip", stripped<false, true>},
                                                            {"split", split<false>},
                                                            {"splitlines", lines},
                                                            {"startswith", fits<true>},
                                                            {"strip", stripped<true, true>},
                                                            {"swapcase", not_known},
                                                            {"title", changed<title>},
                                                            {"translate", not_known},
                                                            {"upper", changed<upper>},
                                                            {"zfill", not_known}};
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

}  // namespace resurface::jinja
