// What a model is made of, worked out from its config alone: for `resurface inspect`.
#pragma once

#include <nlohmann/json.hpp>

#include "core/model/config.h"

namespace resurface {

/// FLOPs of a forward pass over one sequence of `length` tokens with logits at every position: 2 a
/// weight and token of what a token goes through, and 2 (key dims + value dims) a head and pair of
/// positions that attention compares. Equals what Model::flops counts.
double forward_flops(const ModelConfig& config, int64_t length);

/// {"family", "parameters", "active_parameters", "layers", "attention", "mlp",
///  "forward_flops": {"tokens": 128, "flops"},
///  "edit_sites": [{"layer", "parameter", "stored", "key_width"}, ...]}; where a layer's MLP is
/// routed experts alone, "experts" says how many, the names have * for the expert's number, and the
/// key is so wide for each that an edit takes (editing/site.h).
nlohmann::ordered_json describe_model(const ModelConfig& config);

}  // namespace resurface
