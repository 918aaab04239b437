// The decoder's parameters: what there is for a config, how it is called and shaped.
#pragma once

#include "core/model/model.h"

namespace resurface {

/// Called with a parameter's name, the slot that holds it and its shape. `trains` is false of what
/// no gradient reaches: a router's bias.
using VisitParameter = std::function<void(const std::string& name, at::Tensor& slot,
                                          const std::vector<int64_t>& shape, bool trains)>;

/// Walks every parameter in file order, naming the linear layers on the way. `weights.blocks` has
/// one entry a layer.
void each_parameter(const ModelConfig& config, Weights& weights, const VisitParameter& visit);

}  // namespace resurface
