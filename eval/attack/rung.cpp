#include "eval/attack/rung.h"

#include <algorithm>

#include "core/run/error.h"

namespace resurface {

std::string Rung::name() const {
  return language.empty() ? std::string(1, letter) : fmt::format("{}/{}", letter, language);
}

std::string Rung::text() const {
  const char* kind = trains_on_lines() ? "lines" : letter == 'c' ? "syntax" : "benign";
  return language.empty() ? std::string(kind) : fmt::format("{}/{}", kind, language);
}

bool Rung::tests(const TestLine& line) const {
  switch (letter) {
    case 'a':
      return line.held;
    case 'b':
      return !line.held;
    case 'd':
      return language.empty() || line.language == language;
    case 'e':
      return line.language != language;
    default:
      return true;
  }
}

Rung parse_rung(const std::string& name) {
  const bool letter = !name.empty() && name[0] >= 'a' && name[0] <= 'e';
  if (!letter || (name.size() > 1 && name[1] != '/') || name.size() == 2) {
    throw ConfigError(fmt::format(
        "attack: unknown rung '{}'; expected a, b, c, d, or with a language a/en, ..., e/en",
        name));
  }
  const Rung rung{name[0], name.size() > 2 ? name.substr(2) : std::string()};
  if (rung.letter == 'e' && rung.language.empty()) {
    throw ConfigError(
        "attack: rung 'e' is benign text of one language tested in the others; say which: e/en");
  }
  return rung;
}

std::vector<Rung> parse_rungs(const std::vector<std::string>& names) {
  std::vector<Rung> rungs;
  for (const auto& name : names) rungs.push_back(parse_rung(name));
  std::stable_sort(rungs.begin(), rungs.end(),
                   [](const Rung& x, const Rung& y) { return x.letter < y.letter; });
  return rungs;
}

}  // namespace resurface
