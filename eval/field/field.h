// The field's benchmarks, for comparison with published tables. To add one: a file with a settings
// struct (deriving from FieldRun) and a run function, and a line in field.cpp.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "eval/field/probe.h"

namespace resurface {

struct FieldBenchmark {
  std::string name;
  std::string paper;
  std::string files;   ///< the published files that it reads
  std::string models;  ///< besides the model measured: those it can use of before|oracle|reference

  /// {"benchmark", "settings", "aggregates", "items"}. `config` is a map of the settings, with the
  /// benchmark's name in "name"; unknown keys and bad values throw ConfigError, bad files Error.
  std::function<nlohmann::ordered_json(const Config& config, const FieldInputs& inputs)> run;
  /// The settings with their defaults filled in, for the resolved config and for hashes.
  std::function<nlohmann::ordered_json(const Config& config)> resolve;
  std::function<std::vector<FieldInfo>()> describe;
};

const std::vector<FieldBenchmark>& field_benchmarks();
/// Throws ConfigError naming the nearest when there is none of this name.
const FieldBenchmark& field_benchmark(const std::string& name);

}  // namespace resurface
