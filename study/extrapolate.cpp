#include "study/extrapolate.h"

#include <cmath>

#include "core/run/error.h"
#include "core/run/nearest.h"
#include "editing/methods.h"
#include "study/figures.h"
#include "study/reading.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kTrainFlops = 6;  ///< a parameter and token; backward is twice forward

/// "671B" and the like.
double parse_quantity(const std::string& text, const std::string& whole) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const std::map<std::string, double> units = {
      {"", 1}, {"K", 1e3}, {"M", 1e6}, {"B", 1e9}, {"T", 1e12}};
  if (used == 0 || !units.contains(unit) || !(value > 0)) {
    throw ConfigError(fmt::format(
        "'{}': expected NAME=PARAMETERS,ACTIVE,TOKENS such as mine=32B,3B,10T, got '{}'", whole,
        text));
  }
  return value * units.at(unit);
}

/// What a removal of `flops` on this model takes.
Json bill(double flops, double bytes, const ExtrapolationSettings& settings) {
  const PriceSettings& price = settings.price;
  return {{"flops", flops},
          {"gpu_hours", flops / (price.peak_flops * price.efficiency) / 3600},
          {"dollars", price.dollars(flops)},
          {"bytes", bytes},
          {"gpus", static_cast<int64_t>(std::ceil(bytes / settings.gpu_bytes))}};
}

/// 1 - recovered, and its interval turned round.
Json stays_removed(const Json& recovered) {
  const auto rest = [](const Json& share) {
    return share.is_null() ? Json() : number(1 - share.get<double>());
  };
  return {{"mean", rest(recovered["mean"])},
          {"low", rest(recovered["high"])},
          {"high", rest(recovered["low"])}};
}

std::string scaled(double value) {
  constexpr std::array<const char*, 6> units = {"", "k", "M", "G", "T", "P"};
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g}{}", value, units[unit]);
}

std::string dollars(double value) {
  if (value >= 1e6) return fmt::format("{:.1f}M", value / 1e6);
  return value >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.2g}", value);
}

}  // namespace

const std::vector<LargeModel>& large_models() {
  static const std::vector<LargeModel> models = {
      {"1T-A32B", 1.04e12, 32.6e9, 15.5e12, "Kimi K2 (Kimi Team 2025)"},
      {"671B-A37B", 671e9, 37e9, 14.8e12, "DeepSeek-V3 and R1 (DeepSeek-AI 2024)"},
      {"235B-A22B", 235e9, 22e9, 36e12, "Qwen3 (Qwen Team 2025)"},
      {"70B", 70.6e9, 70.6e9, 15e12, "Llama 3 70B (Llama Team 2024)"},
      {"8B", 8.2e9, 8.2e9, 36e12, "Qwen3-8B (Qwen Team 2025)"}};
  return models;
}

LargeModel parse_large_model(const std::string& text) {
  const size_t equals = text.find('=');
  std::vector<std::string> names;
  for (const LargeModel& model : large_models()) {
    if (model.name == text) return model;
    names.push_back(model.name);
  }
  if (equals == std::string::npos) {
    throw ConfigError(fmt::format("no model '{}'{} known: {}; or NAME=PARAMETERS,ACTIVE,TOKENS",
                                  text, did_you_mean(text, names), fmt::join(names, ", ")));
  }
  std::vector<double> values;
  for (size_t begin = equals + 1; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(parse_quantity(text.substr(begin, end - begin), text));
    begin = end + 1;
  }
  if (values.size() != 3 || equals == 0 || values[1] > values[0]) {
    throw ConfigError(fmt::format(
        "'{}': expected NAME=PARAMETERS,ACTIVE,TOKENS, the active ones among the parameters",
        text));
  }
  return {text.substr(0, equals), values[0], values[1], values[2], "as given"};
}

double multiplied_parameters(const ModelConfig& config) {
  const auto all = static_cast<double>(config.parameters());
  return config.tied_head ? all
                          : all - static_cast<double>(config.vocab_size) *
                                      static_cast<double>(config.hidden_size);
}

double bytes_a_parameter(const Removal& removal) {
  const bool edits = find_edit_method(removal.method) != nullptr;
  return !edits && removal.train.reach == "full" ? 16 : 2;
}

Json extrapolate(const Json& summary, const StudyConfig& config, double study_parameters,
                 const std::vector<LargeModel>& models, const ExtrapolationSettings& settings) {
  const int64_t own_lines = summary["lines"].get<int64_t>();
  const int64_t lines = settings.lines > 0 ? settings.lines : own_lines;
  const double more = static_cast<double>(lines) / static_cast<double>(own_lines);
  const std::string rung = headline_rung(summary);

  Json cost = {{"schema", "resurface.cost/1"},
               {"study", summary["study"]},
               {"assumptions",
                {{"study_parameters", study_parameters},
                 {"study_lines", own_lines},
                 {"lines", lines},
                 {"dollars_per_hour", settings.price.dollars_per_hour},
                 {"peak_flops", settings.price.peak_flops},
                 {"efficiency", settings.price.efficiency},
                 {"gpu_bytes", settings.gpu_bytes},
                 {"rung", rung}}},
               {"models", Json::array()}};
  for (const LargeModel& model : models) {
    const double whole = kTrainFlops * model.active * model.tokens;
    Json entry = {{"model", model.name},
                  {"source", model.source},
                  {"parameters", model.parameters},
                  {"active", model.active},
                  {"tokens", model.tokens},
                  {"retraining", bill(whole, 16 * model.parameters, settings)},
                  {"methods", Json::array()}};
    for (const Removal& removal : config.remove) {
      for (const Json& made : summary["models"]) {
        if (made["name"] != removal.name || made["cost"].is_null()) continue;
        const double flops =
            made["cost"]["flops"].get<double>() * more * model.active / study_parameters;
        Json method = {{"name", removal.name}, {"label", made["label"]}};
        method.update(bill(flops, bytes_a_parameter(removal) * model.parameters, settings));
        method["of_retraining"] = flops / whole;
        method["examples"] = std::llround(made["cost"]["examples"].get<double>() * more);
        const Json* back = worst_recovery(summary, removal.name, rung);
        method["stays_removed"] = back == nullptr ? Json() : stays_removed((*back)["recovered"]);
        entry["methods"].push_back(std::move(method));
      }
    }
    cost["models"].push_back(std::move(entry));
  }
  return cost;
}

std::string extrapolation_table(const Json& cost) {
  const Json& a = cost["assumptions"];
  std::string text = fmt::format(
      "The removals of '{}' at the size of large models: the same recipe, {} lines{}.\n"
      "Assumed: FLOPs grow with the parameters that a token goes through (here {}); one GPU does\n"
      "{} FLOP/s x {:.0f}% and costs ${:g} an hour, and holds {} bytes. GPUs: as many as hold the\n"
      "weights (AdamW 16 bytes a parameter, adapters and edits 2), activations not counted.\n"
      "Wholesale retraining: 6 x active parameters x tokens. Data, people and failed runs: not in "
      "it.\n",
      cost["study"].get<std::string>(), a["lines"].get<int64_t>(),
      a["lines"] == a["study_lines"] ? std::string(", as in the study")
                                     : fmt::format(" ({} in the study)", a["study_lines"].dump()),
      scaled(a["study_parameters"].get<double>()), scaled(a["peak_flops"].get<double>()),
      100 * a["efficiency"].get<double>(), a["dollars_per_hour"].get<double>(),
      scaled(a["gpu_bytes"].get<double>()));
  for (const Json& model : cost["models"]) {
    const Json& whole = model["retraining"];
    text += fmt::format("\n{}  ({}; {} tokens)\n", model["model"].get<std::string>(),
                        model["source"].get<std::string>(), scaled(model["tokens"].get<double>()));
    text += fmt::format("  {:<28} {:>8} {:>10} {:>8} {:>10} {:>9} {:>14}\n", "", "FLOPs",
                        "GPU hours", "$", "x retrain", "GPUs >=", "stays removed");
    const auto row = [&](const std::string& label, const Json& bill, const std::string& share,
                         const std::string& stays) {
      text += fmt::format("  {:<28} {:>8.2g} {:>10.3g} {:>8} {:>10} {:>9} {:>14}\n", label,
                          bill["flops"].get<double>(), bill["gpu_hours"].get<double>(),
                          dollars(bill["dollars"].get<double>()), share,
                          bill["gpus"].get<int64_t>(), stays);
    };
    row("wholesale retraining", whole, "1", "-");
    for (const Json& method : model["methods"]) {
      const Json& s = method["stays_removed"];
      const auto percent = [](const Json& e) { return std::lround(100 * e.get<double>()); };
      std::string stays = "-";
      if (!s.is_null()) {
        stays = fmt::format("{}%", percent(s["mean"]));
        if (!s["low"].is_null()) {
          stays += fmt::format(" [{}, {}]", percent(s["low"]), percent(s["high"]));
        }
      }
      row(method["label"].get<std::string>(), method,
          fmt::format("{:.1e}", method["of_retraining"].get<double>()), stays);
    }
  }
  return text;
}

}  // namespace resurface
