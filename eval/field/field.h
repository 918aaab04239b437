// The field's benchmarks, for comparison with published tables. To add one: a file with a settings
// struct (deriving from FieldRun) and a run function, and a line in field.cpp.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
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

  /// Of the aggregates, dotted: what a short table shows. "*" stands for any key.
  std::vector<std::string> main;

  /// {"benchmark", "settings", "aggregates", "items"}. `config` is a map of the settings, with the
  /// benchmark's name in "name"; unknown keys and bad values throw ConfigError, bad files Error.
  std::function<nlohmann::ordered_json(const Config& config, const FieldInputs& inputs)> run;
  /// The settings with their defaults filled in, for the resolved config and for hashes.
  std::function<nlohmann::ordered_json(const Config& config)> resolve;
  /// The files (and folders) that settings name, by setting. Throws ConfigError when they are not
  /// enough to run.
  std::function<std::map<std::string, std::filesystem::path>(const Config& config)> paths;
  std::function<std::vector<FieldInfo>()> describe;
};

const std::vector<FieldBenchmark>& field_benchmarks();
/// Throws ConfigError naming the nearest when there is none of this name.
const FieldBenchmark& field_benchmark(const std::string& name);

}  // namespace resurface
