// {{ value is test }}.
#include <functional>
#include <map>

#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/parser.h"
#include "core/text/jinja/strings.h"

namespace resurface::jinja {
namespace {

using Test = std::function<bool(Interpreter&, const Value&, const Args&)>;

Test plain(bool (*holds)(const Value&)) {
  return [holds](Interpreter&, const Value& value, const Args& args) {
    bind("test", args, {});
    return holds(value);
  };
}

const Value& only(const Args& args) {
  if (args.positional.size() != 1 || !args.named.empty()) fault("this test needs one argument");
  return args.positional[0];
}

void defined(const Value& value) {
  if (value.is_undefined()) fault("{}", *value.as<Undefined>()->why);
}

Test ordered(bool swapped, bool negated) {
  return [swapped, negated](Interpreter& in, const Value& value, const Args& args) {
    const auto& other = only(args);
    defined(value);
    defined(other);
    return less(in.meter(), swapped ? other : value, swapped ? value : other) != negated;
  };
}

bool same(Interpreter& in, const Value& value, const Value& other) {
  if (value.data.index() != other.data.index()) return false;
  if (value.is_none() || value.as<bool>()) return equal(in.meter(), value, other);
  if (value.sequence()) return value.sequence() == other.sequence();
  if (value.dict()) return value.dict() == other.dict();
  fault("'is sameas' for '{}' is not known", type_name(value));
}

bool is_sequence(const Value& value) {
  const auto* sequence = value.sequence();
  return value.is_undefined() || value.text() || value.dict() ||
         (sequence && sequence->kind != Sequence::Kind::lazy &&
          sequence->kind != Sequence::Kind::view);
}

template <std::string (*change)(std::string_view)>
bool in_case(Interpreter& in, const Value& value, const Args& args) {
  bind("test", args, {});
  const auto text = str(in.meter(), value);
  bool cased = false;
  for (const char32_t c : characters(text)) {
    const auto one = utf8(Characters(1, c));
    cased = cased || upper(one) != one || lower(one) != one;
  }
  return cased && change(text) == text;
}

const std::map<std::string, Test>& tests() {
  static const auto table = [] {
    std::map<std::string, Test> all;
    all["defined"] = plain([](const Value& v) { return !v.is_undefined(); });
    all["undefined"] = plain([](const Value& v) { return v.is_undefined(); });
    all["none"] = plain([](const Value& v) { return v.is_none(); });
    all["boolean"] = plain([](const Value& v) { return v.as<bool>() != nullptr; });
    all["true"] = plain([](const Value& v) { return v.as<bool>() && *v.as<bool>(); });
    all["false"] = plain([](const Value& v) { return v.as<bool>() && !*v.as<bool>(); });
    all["integer"] = plain([](const Value& v) { return v.as<int64_t>() != nullptr; });
    all["float"] = plain([](const Value& v) { return v.as<double>() != nullptr; });
    all["number"] = plain([](const Value& v) { return v.number().has_value(); });
    all["string"] = plain([](const Value& v) { return v.text() != nullptr; });
    all["mapping"] = plain([](const Value& v) { return v.dict() != nullptr; });
    all["sequence"] = plain(is_sequence);
    all["iterable"] = plain([](const Value& v) {
      return v.is_undefined() || v.text() || v.dict() || v.sequence() ||
             v.as<std::shared_ptr<Loop>>();
    });
    all["callable"] = plain([](const Value& v) {
      return v.is_undefined() || v.as<std::shared_ptr<const Callable>>() ||
             v.as<std::shared_ptr<Loop>>();
    });
    all["escaped"] =
        plain([](const Value& v) { return v.text() != nullptr && v.as<Text>()->markup; });
    all["odd"] = [](Interpreter& in, const Value& v, const Args& args) {
      bind("odd", args, {});
      return equal(in.meter(), in.binary("%", v, Value(int64_t{2})), Value(int64_t{1}));
    };
    all["even"] = [](Interpreter& in, const Value& v, const Args& args) {
      bind("even", args, {});
      return equal(in.meter(), in.binary("%", v, Value(int64_t{2})), Value(int64_t{0}));
    };
    all["divisibleby"] = [](Interpreter& in, const Value& v, const Args& args) {
      return equal(in.meter(), in.binary("%", v, only(args)), Value(int64_t{0}));
    };
    for (const char* name : {"eq", "equalto", "=="}) {
      all[name] = [](Interpreter& in, const Value& v, const Args& args) {
        return equal(in.meter(), v, only(args));
      };
    }
    for (const char* name : {"ne", "!="}) {
      all[name] = [](Interpreter& in, const Value& v, const Args& args) {
        return !equal(in.meter(), v, only(args));
      };
    }
    for (const char* name : {"lt", "lessthan", "<"}) all[name] = ordered(false, false);
    for (const char* name : {"gt", "greaterthan", ">"}) all[name] = ordered(true, false);
    for (const char* name : {"ge", ">="}) all[name] = ordered(false, true);
    for (const char* name : {"le", "<="}) all[name] = ordered(true, true);
    all["in"] = [](Interpreter& in, const Value& v, const Args& args) {
      return contains(in.meter(), only(args), v);
    };
    all["sameas"] = [](Interpreter& in, const Value& v, const Args& args) {
      return same(in, v, only(args));
    };
    all["lower"] = in_case<lower>;
    all["upper"] = in_case<upper>;
    all["filter"] = [](Interpreter&, const Value& v, const Args&) {
      return is_filter(needed_text(v));
    };
    all["test"] = [](Interpreter&, const Value& v, const Args&) { return is_test(needed_text(v)); };
    return all;
  }();
  return table;
}

}  // namespace

bool is_test(const std::string& name) { return tests().contains(name); }

bool Interpreter::test(const std::string& name, const Value& value, const Args& args) {
  const auto found = tests().find(name);
  if (found == tests().end()) fault("the test '{}' is not known", name);
  return found->second(*this, value, args);
}

}  // namespace resurface::jinja
