// Every editing method, one line each.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/run/method_page.h"
#include "editing/ablation.h"
#include "editing/covariance.h"
#include "editing/editor.h"
#include "editing/editors.h"
#include "editing/rome.h"

namespace resurface {

/// One alternative a method (or a family sharing its settings). Read, print and describe with
/// std::visit([](auto& s) { ... }, settings).
using EditSettings = std::variant<RomeSettings, MemitSettings, PmetSettings, EmmetSettings,
                                  AlphaEditSettings, RectSettings, FtSettings, AblationSettings>;

struct EditMethod {
  std::string name;
  std::string paper;
  std::string summary;
  MethodPage page;
  EditSettings defaults;
  /// Empty for ablation, which is no edit of requests: study/ablation.h runs it.
  std::function<EditFile(const EditSettings&, const Model&, const Tokenizer&,
                         std::span<const EditRequest>, Statistics&)>
      run;
};

const std::vector<EditMethod>& edit_methods();
/// Null when there is none of this name.
const EditMethod* find_edit_method(const std::string& name);
/// Throws ConfigError listing the methods there are.
const EditMethod& edit_method(const std::string& name);

}  // namespace resurface
