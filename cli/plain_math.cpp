#include "cli/plain_math.h"

#include <map>

#include "core/run/error.h"

namespace resurface {
namespace {

const std::map<std::string_view, std::string_view> kSymbols = {
    {"alpha", "α"},    {"beta", "β"},       {"gamma", "γ"}, {"delta", "δ"},     {"Delta", "Δ"},
    {"epsilon", "ε"},  {"varepsilon", "ε"}, {"eta", "η"},   {"theta", "θ"},     {"lambda", "λ"},
    {"mu", "μ"},       {"rho", "ρ"},        {"sigma", "σ"}, {"tau", "τ"},       {"phi", "φ"},
    {"ell", "ℓ"},      {"sum", "Σ"},        {"in", "∈"},    {"mid", "|"},       {"le", "≤"},
    {"ge", "≥"},       {"ne", "≠"},         {"sim", "~"},   {"leftarrow", "←"}, {"to", "→"},
    {"setminus", "∖"}, {"odot", "⊙"},       {"times", "×"}, {"infty", "∞"},     {"top", "ᵀ"},
    {"ldots", "…"},    {"dots", "…"},       {"cup", "∪"},   {"cap", "∩"},       {"prod", "Π"},
    {"approx", "≈"},   {"cdot", "·"},       {"nabla", "∇"}, {"log", "log"},     {"max", "max"},
    {"min", "min"},    {"exp", "exp"},      {"arg", "arg"}, {"big", ""},        {"Big", ""},
    {"left", ""},      {"right", ""},       {"quad", " "},  {",", " "},         {";", " "},
    {"!", ""},         {"|", "‖"},          {"{", "{"},     {"}", "}"},         {"\\", "; "}};

const std::map<std::string_view, std::string_view> kRaised = {
    {"ᵀ", "ᵀ"}, {"-1", "⁻¹"}, {"2", "²"}, {"*", "*"}};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Whether bars, as of a norm, hold all of it together.
bool is_enclosed(const std::string& text) {
  for (const std::string_view bar : {"‖", "|"}) {
    if (!text.starts_with(bar)) continue;
    const auto rest = text.substr(std::min(text.find(bar, 1), text.size() - 1));
    if (rest == bar || rest == std::string(bar) + "²") return true;
  }
  return false;
}

/// Whether it reads as one thing where it stands beside an operator.
bool is_simple(const std::string& text) {
  const bool plain = text.find_first_of(" +-/,|<=") == std::string::npos;
  return is_enclosed(text) || (plain && text.find("∈") == std::string::npos);
}

class Reader {
 public:
  explicit Reader(std::string_view latex) : rest_(latex) {}

  /// Up to the closing brace or the end.
  std::string run() {
    std::string out;
    while (!rest_.empty() && rest_.front() != '}') out += next();
    return out;
  }

 private:
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  /// What a command applies to: a group in braces, or the next command or character.
  std::string argument() {
    while (!rest_.empty() && rest_.front() == ' ') take();
    if (rest_.empty()) fail("formula ends where an argument was expected");
    return next();
  }

  std::string next() {
    const char c = take();
    if (c == '{') {
      std::string inner = run();
      if (rest_.empty()) fail("formula has a brace that is not closed");
      take();
      return inner;
    }
    if (c == '\\') return command();
    if (c == '^') {
      const std::string up = argument();
      if (const auto found = kRaised.find(up); found != kRaised.end()) {
        return std::string(found->second);
      }
      return is_simple(up) && up.find('_') == std::string::npos ? "^" + up : "^(" + up + ")";
    }
    if (c == '_') {
      const std::string down = argument();
      return is_simple(down) ? "_" + down : "_{" + down + "}";
    }
    if (c == '&' || c == '\n') return " ";
    return {c};
  }

  std::string command() {
    size_t size = 0;
    while (size < rest_.size() && is_letter(rest_[size])) ++size;
    const auto name = rest_.substr(0, std::max<size_t>(size, 1));
    rest_.remove_prefix(name.size());
    if (name == "frac") return fraction();
    if (name == "sqrt") {
      const std::string inner = argument();
      return is_simple(inner) ? "√" + inner : "√(" + inner + ")";
    }
    if (name == "bar") return argument() + "\u0304";
    if (name == "tilde") return argument() + "\u0303";
    if (name == "text" || name == "mathrm" || name == "operatorname") return argument();
    if (name == "begin" || name == "end") {
      argument();
      return "";
    }
    if (const auto found = kSymbols.find(name); found != kSymbols.end()) {
      return std::string(found->second);
    }
    fail("formula: '\\{}' is not known to cli/plain_math.cpp", name);
  }

  std::string fraction() {
    const std::string above = argument(), below = argument();
    const bool sum = !is_enclosed(above) && (above.find_first_of("+/") != std::string::npos ||
                                             above.find(" - ") != std::string::npos);
    const std::string text = fmt::format("{} / {}", sum ? fmt::format("({})", above) : above,
                                         is_simple(below) ? below : fmt::format("({})", below));
    // Whole in parentheses where a factor follows.
    auto after = rest_;
    while (!after.empty() &&
           (after[0] == ' ' || after.starts_with("\\,") || after.starts_with("\\;"))) {
      after.remove_prefix(after[0] == ' ' ? 1 : 2);
    }
    const bool alone =
        after.empty() || std::string_view("},)].+-\n&").find(after[0]) != std::string_view::npos ||
        after.starts_with("\\quad") || after.starts_with("\\Big") || after.starts_with("\\big");
    return alone ? text : fmt::format("({})", text);
  }

  std::string_view rest_;
};

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at)) {
    text.replace(at, what.size(), with);
  }
}

}  // namespace

std::string plain_math(std::string_view latex) {
  std::string text = Reader(latex).run();
  for (const auto& [what, with] :
       std::initializer_list<std::pair<const char*, const char*>>{{"  ", " "},
                                                                  {"( ", "("},
                                                                  {" )", ")"},
                                                                  {"[ ", "["},
                                                                  {" ]", "]"},
                                                                  {" ,", ","},
                                                                  {" ;", ";"}}) {
    replace_all(text, what, with);
  }
  if (text.starts_with(' ')) text.erase(0, 1);
  if (text.ends_with(' ')) text.pop_back();
  return text;
}

}  // namespace resurface
