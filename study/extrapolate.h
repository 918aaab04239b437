// What a study's removals would cost on a large model (`resurface cost`).
//
// Arithmetic only: training takes 6 N D FLOPs and a forward pass 2 N D (Kaplan et al. 2020), N the
// parameters that a token goes through, D the tokens. A removal's FLOPs were counted by the study's
// own model, so on a model of N' active parameters the same recipe on the same data takes N'/N
// times as many. Wholesale retraining is 6 N' D' with the D' that the large model was trained on.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "study/config.h"

namespace resurface {

struct LargeModel {
  std::string name;
  double parameters = 0, active = 0;  ///< in all; of those, what one token goes through
  double tokens = 0;                  ///< it was trained on
  std::string source;                 ///< of the three
};

/// The models of the README's table, largest first.
const std::vector<LargeModel>& large_models();
/// One of those by name, or "NAME=671B,37B,14.8T": parameters, active ones, tokens. Throws
/// ConfigError.
LargeModel parse_large_model(const std::string& text);

struct ExtrapolationSettings {
  PriceSettings price;
  double gpu_bytes = 80e9;
  int64_t lines = 0;  ///< talking points to remove; 0: as many as the study has
};

/// Parameters of the study's model that a token is multiplied with: all but a lookup table.
double multiplied_parameters(const ModelConfig& config);

/// Bytes a parameter that a removal holds at least: full training with AdamW 16 (fp32 weight,
/// gradient, two moments), adapters and edits 2 (a bf16 weight; what they add is small).
double bytes_a_parameter(const Removal& removal);

/// `summary` is a run's summary.json, `config` its resolved config. {"assumptions", "models": [{
/// "model", "retraining": {...}, "methods": [{"name", "label", "flops", "dollars", "gpu_hours",
/// "gpus", "bytes", "of_retraining", "examples", "stays_removed", "rung"}]}]}; docs/output.md.
nlohmann::ordered_json extrapolate(const nlohmann::ordered_json& summary, const StudyConfig& config,
                                   double study_parameters, const std::vector<LargeModel>& models,
                                   const ExtrapolationSettings& settings);

/// The same as text.
std::string extrapolation_table(const nlohmann::ordered_json& cost);

}  // namespace resurface
