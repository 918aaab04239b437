// The table of unlearning methods. To add one: a settings struct and a declaration in objective.h,
// a file with the objective, a line in methods.cpp.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "unlearning/objective.h"

namespace resurface {

struct UnlearningMethod {
  std::string name;
  std::string paper;
  int year = 0;
  Needs needs;
  std::string summary;

  /// The objective with the settings of a config map; unknown keys and bad values throw
  /// ConfigError.
  std::function<Objective(const Config&)> objective;
  /// Those settings with their defaults filled in, for the resolved config and for hashes.
  std::function<nlohmann::ordered_json(const Config&)> resolve;
  /// The settings' names, defaults, help and bounds.
  std::function<std::vector<FieldInfo>()> describe;
};

const std::vector<UnlearningMethod>& unlearning_methods();
/// Null when there is none of this name.
const UnlearningMethod* find_unlearning_method(const std::string& name);
/// Throws ConfigError naming the nearest when there is none of this name.
const UnlearningMethod& unlearning_method(const std::string& name);

}  // namespace resurface
