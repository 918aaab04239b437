// The trials of an ablation's search as JSON, and back.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/search/tpe.h"
#include "editing/ablation.h"

namespace resurface {

struct AblationTrial {
  Trial trial;
  double flops = 0, seconds = 0;
};

/// {"trial", "random", "rate", "kl", "parameters", "flops", "seconds"}
nlohmann::ordered_json describe_trial(const AblationTrial& done,
                                      const std::vector<SearchParameter>& space, size_t number,
                                      const AblationSettings& settings);

/// Those of a file with a line each; none where there is no file. A torn last line is dropped.
std::vector<AblationTrial> read_trials(const std::filesystem::path& log,
                                       const std::vector<SearchParameter>& space);

}  // namespace resurface
