#include "study/field.h"

#include <set>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "eval/field/field.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

void flatten(const Json& value, const std::string& name,
             std::vector<std::pair<std::string, Json>>& into) {
  if (value.is_number()) into.emplace_back(name, value);
  if (!value.is_object()) return;
  for (const auto& [key, inner] : value.items()) {
    flatten(inner, name.empty() ? key : name + "." + key, into);
  }
}

bool fits(const std::string& metric, const std::string& pattern) {
  const size_t star = pattern.find('*');
  if (star == std::string::npos) return metric == pattern;
  return metric.size() >= pattern.size() && metric.starts_with(pattern.substr(0, star)) &&
         metric.ends_with(pattern.substr(star + 1));
}

/// A name that can be a file's.
bool plain(const std::string& name) {
  const char* const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.";
  return !name.empty() && name[0] != '.' && name.find_first_not_of(letters) == std::string::npos;
}

}  // namespace

std::vector<FieldEntry> read_field(const Config& list) {
  std::vector<FieldEntry> entries;
  std::set<std::string> names;
  for (const Config& given : list.items()) {
    FieldEntry entry{.benchmark = given["name"].string()};
    const FieldBenchmark* benchmark = nullptr;
    try {
      benchmark = &field_benchmark(entry.benchmark);
    } catch (const ConfigError& error) {
      given["name"].fail(error.what());
    }
    entry.resolved = benchmark->resolve(given);
    try {
      entry.paths = benchmark->paths(given);
    } catch (const ConfigError& error) {
      given.fail(error.what());
    }
    entry.name = entry.resolved["as"].get<std::string>();
    if (entry.name.empty()) entry.name = entry.benchmark;
    entry.resolved["as"] = entry.name;
    if (!plain(entry.name)) {
      given["as"].fail(
          fmt::format("'{}' names a file; expected letters, digits and _ - + . only", entry.name));
    }
    if (!names.insert(entry.name).second) {
      given.fail(
          fmt::format("two benchmarks are named '{}'; give one another name by 'as'", entry.name));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

Json field_key(const FieldEntry& entry) {
  Json key = entry.resolved;
  key.erase("as");
  for (const auto& [setting, path] : entry.paths) {
    key[setting] = fs::is_directory(path) ? Checkpoint::open(path).content_hash() : hash_file(path);
  }
  return key;
}

std::vector<std::pair<std::string, Json>> field_metrics(const Json& result) {
  std::vector<std::pair<std::string, Json>> metrics;
  flatten(result.at("aggregates"), "", metrics);
  return metrics;
}

Json field_summary(const StudyConfig& config, const std::vector<StudyModel>& models) {
  Json benchmarks = Json::array(), results = Json::array();
  for (size_t i = 0; i < config.field.size(); ++i) {
    const FieldBenchmark& benchmark = field_benchmark(config.field[i].benchmark);
    std::vector<std::string> seen;
    for (const StudyModel& model : models) {
      Json metrics = Json::object();
      for (const auto& [name, value] : field_metrics(model.field.at(i))) {
        metrics[name] = value;
        if (std::find(seen.begin(), seen.end(), name) == seen.end()) seen.push_back(name);
      }
      results.push_back({{"model", model.name},
                         {"benchmark", config.field[i].name},
                         {"metrics", std::move(metrics)}});
    }
    Json main = Json::array();
    for (const std::string& pattern : benchmark.main) {
      for (const std::string& name : seen) {
        if (fits(name, pattern)) main.push_back(name);
      }
    }
    benchmarks.push_back({{"benchmark", config.field[i].name},
                          {"paper", benchmark.paper},
                          {"main", std::move(main)}});
  }
  return {{"benchmarks", std::move(benchmarks)}, {"results", std::move(results)}};
}

void write_field(const fs::path& out, const StudyConfig& config,
                 const std::vector<StudyModel>& models) {
  if (config.field.empty()) {
    fs::remove(out / "field.jsonl");  // of an earlier run
    return;
  }
  std::string lines;
  for (const StudyModel& model : models) {
    for (size_t i = 0; i < config.field.size(); ++i) {
      const std::string& benchmark = config.field[i].name;
      for (const auto& [metric, value] : field_metrics(model.field.at(i))) {
        lines += Json{{"model", model.name},  {"kind", model.kind},     {"method", model.method},
                      {"label", model.label}, {"benchmark", benchmark}, {"metric", metric},
                      {"value", value}}
                     .dump() +
                 "\n";
      }
      atomic_write(out / "field" / model.name / (benchmark + ".json"),
                   model.field[i].dump(1) + "\n");
    }
  }
  atomic_write(out / "field.jsonl", lines);
}

}  // namespace resurface
