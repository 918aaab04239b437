// Every method as a reader sees it, gathered from the tables, and its page.
#pragma once

#include <string>
#include <vector>

#include "core/run/config.h"
#include "core/run/method_page.h"

namespace resurface {

struct MethodInfo {
  std::string name;
  std::string family;  ///< finetune | unlearning | editing | wrapper | in the prompt
  std::string paper;
  std::string summary;
  bool trains = false;  ///< takes the trainer's settings and wrappers too
  std::vector<FieldInfo> fields = {};
  MethodPage page = {};
  std::vector<std::string> needs = {};  ///< a sentence each
};

/// All families, in the order in which they are listed.
std::vector<MethodInfo> all_methods();

/// The formulas of a page, LaTeX.
std::vector<std::string> formulas(const MethodInfo& method);
/// The symbols in them: LaTeX, and a meaning in which LaTeX stands between dollars.
struct Symbol {
  std::string latex, meaning;
};
std::vector<Symbol> symbols(const MethodInfo& method);
/// In words, from `units` and `cost`; may be empty.
std::string cost_of(const MethodInfo& method);

/// docs/methods/NAME.md, docs/methods/README.md and docs/methods/training.md.
std::string method_markdown(const MethodInfo& method);
std::string index_markdown(const std::vector<MethodInfo>& methods);
std::string training_markdown();

}  // namespace resurface
