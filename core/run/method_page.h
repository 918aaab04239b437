// What a method's own page says beside its settings: docs/methods/NAME.md and `resurface methods
// NAME` are made of it.
#pragma once

namespace resurface {

struct MethodPage {
  /// The file that implements it, from the project's root.
  const char* file = "";
  /// LaTeX without dollars, as the code computes it; an empty line parts two formulas.
  const char* formula = "";
  /// A line each, "LATEX: meaning", of the symbols that are the method's own; those of its family
  /// (F, NLL, gamma ...) are explained wherever they occur (cli/method_pages.cpp).
  const char* symbols = "";
  /// What a step costs at the default settings, in forward passes over the forget examples: of each
  /// set of examples that it sees a forward pass counts 1, its backward pass 2. 0: see `cost`.
  double units = 0;
  const char* cost = "";   ///< further sentences about it
  const char* needs = "";  ///< what it needs, for methods that have no Needs
  const char* traps = "";  ///< what goes wrong with it, and what shipped code gets wrong
  const char* usage = "";  ///< Markdown, where the example is no removal in a study
};

/// The page of a settings struct, or a compile error that says what is missing.
template <class Settings>
constexpr MethodPage page_of() {
  static_assert(
      requires { Settings::page; },
      "a method's settings say what its page shows: static constexpr MethodPage page = "
      "{.file = ..., .formula = ..., ...}; docs/adding-a-method.md has an example");
  static_assert(*Settings::page.file != 0 && *Settings::page.formula != 0,
                "a method's page states its file and its formula; see docs/adding-a-method.md");
  return Settings::page;
}

}  // namespace resurface
