#include "editing/ablation_space.h"

#include "core/run/error.h"

namespace resurface {
namespace {

void check_range(const char* name, const std::vector<double>& range) {
  if (range.size() != 2 || !(range[0] <= range[1])) {
    fail("ablation: {} is [{}], an empty search space; give [least, most] with least <= most", name,
         fmt::join(range, ", "));
  }
}

/// A range of shares as numbers of blocks.
SearchParameter of_depth(std::string name, const std::vector<double>& shares, int64_t layers) {
  const auto last = static_cast<double>(layers - 1);
  return {.name = std::move(name), .low = shares[0] * last, .high = shares[1] * last};
}

}  // namespace

std::vector<SearchParameter> ablation_space(const AblationSettings& settings, int64_t layers) {
  const int64_t last = settings.last_layer < 0 ? layers - 1 : settings.last_layer;
  if (settings.first_layer > last || last >= layers) {
    fail("ablation: blocks {} .. {} asked (first_layer, last_layer), the model has 0 .. {}",
         settings.first_layer, last, layers - 1);
  }
  check_range("direction", settings.direction);
  check_range("position", settings.position);
  check_range("distance", settings.distance);
  check_range("min_weight", settings.min_weight);
  check_range("attention_weight", settings.attention_weight);
  check_range("mlp_weight", settings.mlp_weight);
  if (settings.attention_weight[1] <= 0 && settings.mlp_weight[1] <= 0) {
    fail(
        "ablation: attention_weight and mlp_weight are 0 throughout, an empty search space; raise "
        "one of them");
  }
  std::vector<SearchParameter> space = {{.name = "per_layer", .low = 0, .high = 0},
                                        of_depth("direction", settings.direction, layers)};
  if (settings.scope == "either") space[0].choices = 2;
  if (settings.scope == "per_layer") space[0].low = space[0].high = 1;
  const auto add_kernel = [&](const std::string& part, const std::vector<double>& weight) {
    space.push_back({.name = part + ".max_weight", .low = weight[0], .high = weight[1]});
    space.push_back(of_depth(part + ".max_weight_position", settings.position, layers));
    // A share of max_weight: the estimator knows no range that depends on another parameter.
    space.push_back({.name = part + ".min_weight_share",
                     .low = settings.min_weight[0],
                     .high = settings.min_weight[1]});
    auto reach = of_depth(part + ".min_weight_distance", settings.distance, layers);
    reach.low = std::max(reach.low, 1.0);
    reach.high = std::max(reach.high, 1.0);
    space.push_back(std::move(reach));
  };
  add_kernel("attention", settings.attention_weight);
  add_kernel("mlp", settings.mlp_weight);
  return space;
}

Ablation ablation_at(const std::vector<SearchParameter>& space, const std::vector<double>& values) {
  const auto value = [&](const std::string& name) {
    for (size_t p = 0; p < space.size(); ++p) {
      if (space[p].name == name) return values.at(p);
    }
    fail("ablation: the search space has no parameter '{}'", name);
  };
  const auto kernel = [&](const std::string& part) {
    const double weight = std::max(0.0, value(part + ".max_weight"));
    return WeightKernel{.max_weight = weight,
                        .position = value(part + ".max_weight_position"),
                        .min_weight = weight * value(part + ".min_weight_share"),
                        .distance = value(part + ".min_weight_distance")};
  };
  Ablation ablation{.direction = {}, .attention = kernel("attention"), .mlp = kernel("mlp")};
  if (value("per_layer") == 0) ablation.direction = value("direction");
  return ablation;
}

}  // namespace resurface
