// The field's benchmarks in a study: each model through each of them, a stage each.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "study/summary.h"
#include "study/workshop.h"

namespace resurface {

/// Fills `field` of each model. `artifacts`: of the models, in their order. `parts`: the models
/// that benchmarks may compare with, by their part in it ("before", "oracle"), those that there
/// are.
void run_benchmarks(Workshop& workshop, std::vector<StudyModel>& models,
                    const std::vector<Artifact>& artifacts,
                    const std::map<std::string, Artifact>& parts);

}  // namespace resurface
