#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/run/error.h"
#include "core/text/jinja/template.h"

using namespace resurface;
using Catch::Matchers::Contains;
using jinja::Template;
using Json = nlohmann::ordered_json;

namespace {

Json golden(const std::string& name) {
  return Json::parse(std::ifstream(std::string(RESURFACE_TEST_DATA) + "/chat/" + name));
}

/// The day and time of golden_chat.py: Friday, July 26, 2024, 9:05:03.
std::tm then() {
  std::tm now{};
  now.tm_year = 124;
  now.tm_mon = 6;
  now.tm_mday = 26;
  now.tm_wday = 5;
  now.tm_yday = 207;
  now.tm_hour = 9;
  now.tm_min = 5;
  now.tm_sec = 3;
  return now;
}

std::string render(const std::string& text, const Json& variables = Json::object(),
                   jinja::Limits limits = {}) {
  return Template::parse(text, "t", limits).render(variables, then());
}

/// Nothing where it throws.
std::optional<std::string> rendered(const std::string& text, const Json& variables,
                                    std::string* why = nullptr) {
  try {
    return render(text, variables);
  } catch (const Error& error) {
    if (why) *why = error.what();
    return std::nullopt;
  }
}

std::string text_of(const Json& value) {
  return value.is_null() ? "(raises)" : value.get<std::string>();
}

}  // namespace

TEST_CASE("expressions and tags give what Jinja gives") {
  const auto cases = golden("expressions.json");
  REQUIRE(cases["cases"].size() > 600);
  int64_t refused = 0;
  for (const auto& one : cases["cases"]) {
    const auto text = one[0].get<std::string>();
    INFO(text);
    std::string why;
    const auto got = rendered(text, cases["variables"], &why);
    // What Jinja has and this has not is refused by name.
    if (!got && !one[1].is_null()) {
      CHECK_THAT(why, Contains("not known"));
      ++refused;
    } else {
      CHECK(got.value_or("(raises)") == text_of(one[1]));
    }
  }
  CHECK(refused == 7);
}

TEST_CASE("conversations in each family's template give what transformers gives") {
  const auto data = golden("golden.json");
  REQUIRE(data["conversations"].size() >= 30);
  REQUIRE(data["templates"].size() > 35);
  for (const auto& [name, expected] : data["templates"].items()) {
    DYNAMIC_SECTION(name) {
      std::ifstream stream(fmt::format("{}/chat/{}.jinja", RESURFACE_TEST_DATA, name));
      const auto format = Template::parse({std::istreambuf_iterator<char>(stream), {}}, name);
      for (size_t i = 0; i < data["conversations"].size(); ++i) {
        Json variables = {
            {"tools", nullptr}, {"documents", nullptr}, {"add_generation_prompt", false}};
        variables.update(expected["tokens"]);
        variables.update(data["conversations"][i]);
        INFO(name << ", conversation " << i);
        std::string got = "(raises)", why;
        try {
          got = format.render(variables, then());
        } catch (const Error& error) {
          why = error.what();
        }
        INFO(why);
        CHECK(got == text_of(expected["rendered"][i]));
      }
    }
  }
}

TEST_CASE("what is not known is named, with its line") {
  const auto parse = [](const std::string& text) { Template::parse(text, "model/x.jinja"); };
  CHECK_THROWS_WITH(parse("a\n\n{{ x | sparkle }} b"), Contains("model/x.jinja, line 3") &&
                                                           Contains("the filter 'sparkle'") &&
                                                           Contains("{{ x | sparkle }} b"));
  CHECK_THROWS_WITH(parse("{{ x is shiny }}"), Contains("the test 'shiny'"));
  CHECK_THROWS_WITH(parse("{% include 'x' %}"), Contains("the tag 'include' is not known"));
  CHECK_THROWS_WITH(parse("{% for x in y recursive %}{% endfor %}"), Contains("recursive loops"));
  CHECK_THROWS_WITH(parse("x {% if y %}"), Contains("elif or else or endif is missing"));
  CHECK_THROWS_WITH(parse("{{ x +\n }}"), Contains("expected a value, got '}}'"));
  CHECK_THROWS_WITH(render("a\n{{ 'x'.encode(1) }}"), Contains("line 2") && Contains("not known"));
  // As in Jinja: inside of a branch where it is used.
  CHECK(render("{% if x %}{{ x | sparkle }}{% endif %}") == "");
  CHECK_THROWS_WITH(render("{% if not x %}{{ x | sparkle }}{% endif %}"), Contains("'sparkle'"));
  CHECK_THROWS_WITH(render("{{ x.y.z }}", {{"x", Json::object()}}), Contains("no attribute 'y'"));
  CHECK_THROWS_WITH(render("a{{ raise_exception('only users') }}"),
                    Contains("refuses this conversation: only users"));
  CHECK_THROWS_WITH(render("{{ x.append(1) }}", {{"x", Json::array()}}), Contains("not allowed"));
  CHECK_THROWS_WITH(parse("\xff"), Contains("not valid UTF-8"));
  CHECK_THROWS_WITH(render("{{ x }}", {{"x", "\xff"}}), Contains("not valid UTF-8"));
  // Of a long line, what is around the place.
  const std::string filler(500, 'x');
  try {
    parse(filler + "{{ a ! }}" + filler);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Contains("...x") && Contains("{{ a ! }}") && Contains("x..."));
    CHECK(std::string(error.what()).size() < 400);
  }
}

TEST_CASE("hostile templates end") {
  const jinja::Limits small{.steps = 200'000, .text = 100'000};
  const auto refused = [&](const std::string& text) {
    INFO(text.substr(0, 80));
    CHECK_THROWS_AS(render(text, Json::object(), small), Error);
  };
  const auto repeated = [](const std::string& text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
  refused(
      "{% set ns = namespace(x='aa') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% "
      "endfor %}");
  refused(
      "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% "
      "endfor %}");
  refused(
      "{% set ns = namespace(x=[]) %}{% for a in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}");
  // Small, but as large as 2^90 when it is walked through.
  refused(
      "{% set ns = namespace(x=[]) %}{% for a in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% "
      "endfor %}"
      "{{ ns.x }}");
  refused(
      "{% set ns = namespace(x=[], y=[]) %}{% for a in range(90) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}");
  refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  refused("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}");
  refused("{{ 'x' * 999999999999 }}");
  refused("{{ [1] * 999999999999 }}");
  refused("{{ 'x'.center(999999999999) }}");
  refused("{{ 'x' | indent(999999999999) }}");
  refused("{{ [1] | tojson(indent=999999999999) }}");
  refused("{{ 9999999999 ** 9999999999 }}");
  refused("{{ -9223372036854775807 - 2 }}");
  refused("{{ (-9223372036854775807 - 1) // -1 }}");
  refused("{{ " + repeated("(", 100'000));
  refused("{{ " + repeated("not ", 100'000) + "x }}");
  refused("{{ " + repeated("-", 100'000) + "1 }}");
  refused("{{ x" + repeated(".a", 100'000) + " }}");
  refused("{{ x" + repeated(" | trim", 100'000) + " }}");
  refused("{{ 1" + repeated(" + 1", 100'000) + " }}");
  refused(repeated("{% if x %}", 100'000));
  refused("{% set " + repeated("(", 100'000));
  refused("{{ 'a' " + repeated("~ ('a' ", 1000));
  CHECK(render("{{ (-9223372036854775807 - 1) % -1 }}") == "0");
  CHECK(render("{{ [1, 2, 3][-9223372036854775807:9223372036854775807:9223372036854775807] }}") ==
        "[1]");
  CHECK(render("{% set ns = namespace() %}{% for x in [1] %}{% macro m() %}a{% endmacro %}"
               "{{ m() }}{% endfor %}") == "a");
}
