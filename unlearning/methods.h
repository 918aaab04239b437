// The table of unlearning methods. To add one: a header with its settings and its loss
// (unlearning/terms.h says how), and a line in methods.cpp.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "core/run/method_page.h"
#include "finetune/trainer.h"
#include "unlearning/alternatives.h"

namespace resurface {

struct UnlearningMethod {
  std::string name;
  std::string paper;
  int year = 0;
  std::string summary;
  MethodPage page;

  // Of the settings in a config map; unknown keys and bad values throw ConfigError.
  std::function<Objective(const Config&)> objective;
  /// What the trainer must provide, for a model like this.
  std::function<Needs(const Config&, const ModelConfig&)> needs;
  /// Which other answers it trains towards; none where the source is empty.
  std::function<AlternativeAnswers(const Config&)> alternatives;
  /// The settings with their defaults filled in, for the resolved config and for hashes.
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
