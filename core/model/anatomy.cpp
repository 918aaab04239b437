#include "core/model/anatomy.h"

#include "core/model/attention.h"
#include "core/model/parameters.h"

namespace resurface {

double forward_flops(const ModelConfig& c, int64_t length) {
  Weights weights;
  weights.blocks.resize(static_cast<size_t>(c.layers));
  double matrices = 0;
  each_parameter(
      c, weights,
      [&](const std::string& name, at::Tensor&, const std::vector<int64_t>& shape, bool) {
        const bool product =
            shape.size() == 2 && shape[0] > 1 && name.find("embed_") == std::string::npos;
        if (!product) return;
        const bool routed = name.find(".mlp.experts.") != std::string::npos;
        matrices += static_cast<double>(shape[0] * shape[1]) *
                    (routed ? static_cast<double>(c.experts->per_token) /
                                  static_cast<double>(c.experts->count)
                            : 1);
      });
  if (c.tied_head) matrices += static_cast<double>(c.vocab_size * c.hidden_size);
  const auto tokens = static_cast<double>(length);
  double flops = 2 * tokens * matrices;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    if (!c.is_linear(layer)) {
      flops += 2 * attention_pairs(length, 0, c.window(layer)) *
               static_cast<double>(c.heads * (c.key_dims() + c.value_dims()));
      continue;
    }
    for (int64_t from = 0; from < length; from += c.linear->block) {
      const auto size = static_cast<double>(std::min(c.linear->block, length - from));
      const auto dim = static_cast<double>(c.head_dim);
      flops += 4 * static_cast<double>(c.heads) * size * dim * (size + dim);
    }
  }
  return flops;
}

nlohmann::ordered_json describe_model(const ModelConfig& c) {
  std::vector<std::string> attention;
  if (c.latent) attention.emplace_back("latent");
  int64_t linear = 0, windowed = 0, mixtures = 0, window = 0;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    linear += c.is_linear(layer);
    windowed += c.window(layer) > 0;
    window = std::max(window, c.window(layer));
    mixtures += c.has_experts(layer);
  }
  attention.push_back(
      fmt::format("{} heads of {}, {} of keys and values", c.heads, c.key_dims(), c.kv_heads));
  if (linear > 0) attention.push_back(fmt::format("linear in {} layers", linear));
  if (windowed > 0) {
    attention.push_back(fmt::format("a window of {} in {} layers", window, windowed));
  }
  std::vector<std::string> mlp;
  if (mixtures < c.layers) {
    mlp.push_back(fmt::format("{} wide in {} layers", c.intermediate_size, c.layers - mixtures));
  }
  if (mixtures > 0) {
    mlp.push_back(fmt::format("{} of {} experts {} wide in {} layers", c.experts->per_token,
                              c.experts->count, c.experts->width, mixtures));
    if (c.experts->shared > 0) mlp.push_back(fmt::format("a shared one {}", c.experts->shared));
  }
  nlohmann::ordered_json sites = nlohmann::ordered_json::array();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const bool routed = c.key_width(layer) == 0;
    const std::string part = routed ? "experts.*." : c.has_experts(layer) ? "shared_experts." : "";
    const auto parameter = fmt::format("model.layers.{}.mlp.{}down_proj.weight", layer, part);
    sites.push_back({{"layer", layer},
                     {"parameter", parameter},
                     {"stored", place_of(c, parameter).name},
                     {"key_width", routed ? c.experts->width : c.key_width(layer)}});
    if (routed) sites.back()["experts"] = c.experts->count;
  }
  constexpr int64_t kTokens = 128;
  return {{"family", c.family},
          {"parameters", c.parameters()},
          {"active_parameters", c.active_parameters()},
          {"layers", c.layers},
          {"attention", fmt::format("{}", fmt::join(attention, ", "))},
          {"mlp", fmt::format("{}", fmt::join(mlp, ", "))},
          {"forward_flops", {{"tokens", kTokens}, {"flops", forward_flops(c, kTokens)}}},
          {"edit_sites", sites}};
}

}  // namespace resurface
