#include "editing/ablation.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

/// The direction of a block: its own, or the global one.
at::Tensor direction_of(const at::Tensor& directions, const Ablation& ablation, int64_t block) {
  if (!ablation.direction) return directions[block + 1];
  const double place = *ablation.direction + 1;  // row 0 is the embeddings'
  const int64_t below = std::min(static_cast<int64_t>(place), directions.size(0) - 2);
  const auto mixed =
      at::lerp(directions[below], directions[below + 1], place - static_cast<double>(below));
  return mixed / mixed.norm();
}

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

at::Tensor mean_residuals(const Model& model, std::span<const std::vector<int64_t>> prompts,
                          int64_t batch_tokens) {
  if (prompts.empty()) {
    fail("ablation: a set of prompts is empty; it takes questions of talking points and others");
  }
  const at::NoGradGuard no_grad;
  std::vector<Example> examples;
  for (const auto& prompt : prompts) examples.push_back({.prompt = prompt, .answer = {}});
  const int64_t layers = model.layers();
  auto sum = at::zeros({layers + 1, model.config().hidden_size},
                       at::device(model.device()).dtype(at::kDouble));
  for (const auto& indices : batches_by_tokens(examples, batch_tokens)) {
    std::vector<std::vector<int64_t>> members;
    for (const auto i : indices) members.push_back(prompts[static_cast<size_t>(i)]);
    const Batch batch = pack_sequences(members, model.device());
    std::vector<int64_t> last;
    for (size_t b = 1; b < batch.starts.size(); ++b) last.push_back(batch.starts[b] - 1);
    const auto rows = at::tensor(at::ArrayRef<int64_t>(last)).to(model.device());
    const auto add = [&](int64_t row, const at::Tensor& states) {
      sum[row].add_(states.to(at::kDouble).sum(0));
    };
    HiddenOptions options{.rows = rows};
    options.start = model.embed(batch);
    options.on_block = [&](int64_t layer, const at::Tensor& hidden) {
      // The last block gives the rows alone.
      add(layer + 1, layer + 1 == layers ? hidden : hidden.index_select(0, rows));
    };
    add(0, options.start.index_select(0, rows));
    model.hidden(batch, options);
  }
  return (sum / static_cast<double>(prompts.size())).cpu();
}

at::Tensor ablation_directions(const at::Tensor& forget, const at::Tensor& retain) {
  const auto difference = forget - retain;
  const auto length = difference.norm(2, {1}, true);
  // Row 0 is not used by any block; both sets may well end in the same token.
  if (!(length.narrow(0, 1, length.size(0) - 1) > 0).all().item<bool>()) {
    fail("ablation: the two sets of prompts give the same mean residual; they must differ");
  }
  return difference / length.clamp_min(std::numeric_limits<double>::min());
}

double WeightKernel::at(int64_t block) const {
  const double away = std::abs(static_cast<double>(block) - position);
  if (away > distance) return 0;
  return away == 0 ? max_weight : max_weight + away / distance * (min_weight - max_weight);
}

std::vector<Delta> ablation_deltas(const Model& model, const at::Tensor& directions,
                                   const Ablation& ablation, int64_t first, int64_t last) {
  const at::NoGradGuard no_grad;
  std::vector<Delta> deltas;
  for (int64_t block = first; block <= last; ++block) {
    const auto d = direction_of(directions, ablation, block);
    const auto take_out = [&](const char* matrix, double weight) {
      if (weight == 0) return;
      const auto name = fmt::format("model.layers.{}.{}.weight", block, matrix);
      const auto w = model.parameter(name).detach().to(at::kCPU, at::kDouble);
      deltas.push_back(
          {name, (-weight * d).unsqueeze(1).to(at::kFloat), d.unsqueeze(0).mm(w).to(at::kFloat)});
    };
    take_out("self_attn.o_proj", ablation.attention.at(block));
    take_out("mlp.down_proj", ablation.mlp.at(block));
  }
  return deltas;
}

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
