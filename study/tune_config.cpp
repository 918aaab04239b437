#include "study/tune_config.h"

#include <cmath>
#include <map>

#include "core/run/nearest.h"
#include "editing/methods.h"
#include "study/config.h"
#include "unlearning/methods.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

/// What is searched where the config names nothing.
const std::vector<TuneRange> kDefault = {
    {.key = "train.learning_rate", .low = 1e-5, .high = 1e-2, .log = true}};

/// Type by key of everything that can be set of a removal.
std::map<std::string, std::string> types_of(const Removal& removal) {
  std::map<std::string, std::string> types;
  const auto add = [&](const std::string& prefix, const std::vector<FieldInfo>& fields) {
    for (const FieldInfo& field : fields) types[prefix + field.name] = field.type;
  };
  if (const EditMethod* editing = find_edit_method(removal.method)) {
    add("settings.",
        std::visit([](const auto& settings) { return describe(settings); }, editing->defaults));
    return types;
  }
  add("train.", describe<TrainerSettings>());
  if (const auto* unlearning = find_unlearning_method(removal.method)) {
    add("settings.", unlearning->describe());
  }
  return types;
}

std::vector<std::string> numbers_of(const Removal& removal) {
  std::vector<std::string> keys;
  for (const auto& [key, type] : types_of(removal)) {
    if (type == "number") keys.push_back(key);
  }
  return keys;
}

TuneRange read_range(const std::string& key, const Config& config) {
  TuneRange range{.key = key};
  if (!config.is_list() || config.size() < 2 || config.size() > 3) {
    config.fail(fmt::format("{}: expected [least, most] or [least, most, log]", key));
  }
  const auto parts = config.items();
  range.low = parts[0].number();
  range.high = parts[1].number();
  if (parts.size() == 3) {
    if (parts[2].string() != "log") {
      parts[2].fail(fmt::format("{}: a range's third part can be 'log' alone, got '{}'", key,
                                parts[2].string()));
    }
    range.log = true;
  }
  if (!(range.low < range.high)) {
    config.fail(fmt::format("{}: {} .. {} is an empty range; least must be below most", key,
                            range.low, range.high));
  }
  if (range.log && range.low <= 0) {
    config.fail(fmt::format("{}: a logarithmic range must begin above 0, got {}", key, range.low));
  }
  return range;
}

/// Refuses a setting that is no number, and bounds that the setting itself does not allow.
void check_range(const TuneRange& range, const Config& config, const StudyConfig& study,
                 const Removal& removal) {
  const std::string type = types_of(removal).at(range.key);
  if (type != "number") {
    config.fail(fmt::format("{}: is a {}; only numbers are searched: {}", range.key, type,
                            fmt::join(numbers_of(removal), ", ")));
  }
  for (const double value : {range.low, range.high}) {
    try {
      with_values(study, removal, std::span(&range, 1), std::span(&value, 1));
    } catch (const ConfigError& error) {
      const std::string said = error.what();  // after its place in an entry made here
      config.fail(fmt::format("{}: {}", range.key, said.substr(said.find(": ") + 2)));
    }
  }
}

[[noreturn]] void unknown(const std::string& key, const Config& config, const std::string& of,
                          const std::vector<std::string>& valid) {
  config.fail(fmt::format("unknown key '{}' in the search of {}; did you mean '{}'? valid keys: {}",
                          key, of, nearest(key, valid), fmt::join(valid, ", ")));
}

/// The ranges that a map names for one removal, each of which it must have.
std::vector<TuneRange> read_ranges(const Config& config, const StudyConfig& study,
                                   const Removal& removal) {
  std::vector<TuneRange> ranges;
  const auto types = types_of(removal);
  for (const auto& [key, value] : config.entries()) {
    if (!types.contains(key)) unknown(key, value, removal.name, numbers_of(removal));
    ranges.push_back(read_range(key, value));
    check_range(ranges.back(), value, study, removal);
  }
  return ranges;
}

/// Of the ranges for everybody those that the removal has.
std::vector<TuneRange> of_default(const std::optional<Config>& standard, const StudyConfig& study,
                                  const Removal& removal) {
  std::vector<TuneRange> ranges;
  const auto types = types_of(removal);
  if (!standard) {
    for (const TuneRange& range : kDefault) {
      if (types.contains(range.key)) ranges.push_back(range);
    }
    return ranges;
  }
  for (const auto& [key, value] : standard->entries()) {
    if (!types.contains(key)) continue;
    ranges.push_back(read_range(key, value));
    check_range(ranges.back(), value, study, removal);
  }
  return ranges;
}

/// Refuses names in `search` that mean no removal, and keys of `default` that no removal has.
void check_names(const Config& search, const StudyConfig& study) {
  std::vector<std::string> names = {"default"}, keys;
  for (const Removal& removal : study.remove) {
    if (!untuned_because(removal).empty()) continue;
    for (const std::string& name : {removal.name, removal.method}) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    for (const auto& [key, type] : types_of(removal)) keys.push_back(key);
  }
  for (const auto& [name, entry] : search.entries()) {
    const auto named = [&, &who = name](const Removal& r) {
      return r.name == who || r.method == who;
    };
    const auto left = std::find_if(study.remove.begin(), study.remove.end(), [&](const Removal& r) {
      return named(r) && !untuned_because(r).empty();
    });
    if (left != study.remove.end()) {
      entry.fail(fmt::format("'{}' is not tuned: {}", name, untuned_because(*left)));
    }
  }
  search.allow_only(names);
  if (const auto standard = search.find("default")) {
    for (const auto& [key, value] : standard->entries()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
        unknown(key, value, "every removal", keys);
      }
    }
  }
}

}  // namespace

double TuneRange::coordinate(double at) const { return log ? std::log(at) : at; }

double TuneRange::value(double coordinate) const {
  const double exact = log ? std::exp(coordinate) : coordinate;
  return std::clamp(std::stod(fmt::format("{:.3g}", exact)), low, high);
}

std::string untuned_because(const Removal& removal) {
  if (removal.method == "retrain") return "it trains as the planting does";
  if (removal.method == "undo") return "it learns from another model";
  if (removal.method == "ablation") return "it searches by itself";
  return "";
}

TuneConfig read_tune(const Config& config, const StudyConfig& study) {
  TuneConfig tune;
  tune.settings.damaged_below = study.statistics.damaged_below;
  detail::Reader reader{config};
  tune.settings.visit(reader);
  reader.names.emplace_back("search");
  config.allow_only(reader.names);

  const Config search = config.find("search").value_or(Config::parse("{}", "defaults"));
  check_names(search, study);
  bool any = false;
  for (const Removal& removal : study.remove) {
    auto& ranges = tune.ranges.emplace_back();
    if (!untuned_because(removal).empty()) continue;
    any = true;
    const auto own =
        search.has(removal.name) ? search.find(removal.name) : search.find(removal.method);
    ranges = own ? read_ranges(*own, study, removal)
                 : of_default(search.find("default"), study, removal);
    if (ranges.empty()) {
      (own ? *own : config)
          .fail(fmt::format("the search space of '{}' is empty; give tune.search.{} a range of one "
                            "or more of: {}",
                            removal.name, removal.name, fmt::join(numbers_of(removal), ", ")));
    }
  }
  if (!any) config.fail("the study has no removal that can be tuned");
  return tune;
}

Removal with_values(const StudyConfig& study, const Removal& removal,
                    std::span<const TuneRange> ranges, std::span<const double> values) {
  Json entry = resolved_removal(removal);
  for (size_t r = 0; r < ranges.size(); ++r) {
    std::string pointer = "/" + ranges[r].key;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    entry[Json::json_pointer(pointer)] = values[r];
  }
  return read_removal(Config::parse(yaml_text(entry), removal.name), study);
}

}  // namespace resurface
