// The search space of directional ablation: what may be ablated, as numbers that a search tries.
#pragma once

#include "core/search/tpe.h"
#include "editing/ablation.h"

namespace resurface {

/// The search space for a model of so many layers, and a point of it as an ablation. Throws Error
/// for layers that are not there, an empty range and a space in which nothing is ablated.
std::vector<SearchParameter> ablation_space(const AblationSettings& settings, int64_t layers);
Ablation ablation_at(const std::vector<SearchParameter>& space, const std::vector<double>& values);

}  // namespace resurface
