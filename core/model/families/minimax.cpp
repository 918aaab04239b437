// MiniMax-Text-01 and M1 (arXiv 2501.08313, 2506.13585): lightning attention with softmax attention
// in between, experts in every layer; what goes on is the normed stream. As transformers reads them
// (MiniMaxForCausalLM); M2 has plain blocks, softmax attention and a sigmoid router.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read_both(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  Experts e;
  e.count = config.count("num_local_experts");
  e.per_token = config.positive("num_experts_per_tok");
  e.width = c.intermediate_size;
  e.normalise = true;
  e.layers.assign(static_cast<size_t>(c.layers), true);
  c.experts = e;
  return c;
}

/// How much of a head turns. Not in transformers' MiniMaxForCausalLM, which turns all of it.
void read_rotary_dims(const ConfigReader& config, ModelConfig& c) {
  if (config.has("rotary_dim")) {
    c.rope->dims = config.positive("rotary_dim");
  } else if (config.has("rope_parameters")) {
    const double share = config.at("rope_parameters").get<double>("partial_rotary_factor", 1);
    c.rope->dims = static_cast<int64_t>(static_cast<double>(c.head_dim) * share);
  }
}

ModelConfig read_01(const ConfigReader& config) {
  config.only<int64_t>("shared_intermediate_size", 0);
  config.only<bool>("postnorm", true);
  ModelConfig c = read_both(config);
  c.norm_in_stream = true;
  // transformers' words, and the makers'.
  const auto residual = [&](const std::string& half, const std::string& makers) {
    const auto factor = [&](const char* which) {
      return config.get<double>(half + which + "_factor",
                                config.get<double>("layernorm_" + makers + which, 1));
    };
    return Residual{factor("_alpha"), factor("_beta")};
  };
  c.attention_residual = residual("full_attn", "full_attention");
  c.linear_residual = residual("linear_attn", "linear_attention");
  c.mlp_residual = residual("mlp", "mlp");
  LinearAttention linear{.layers = {}, .block = config.positive("block_size", 256)};
  auto types = config.get<std::vector<std::string>>("layer_types", {});
  for (const int64_t softmax : config.get<std::vector<int64_t>>("attn_type_list", {})) {
    types.emplace_back(softmax == 1 ? "full_attention" : "linear_attention");
  }
  if (!types.empty() && std::ssize(types) != c.layers) {
    fail("{}: {} kinds of attention for {} layers", config.where, types.size(), c.layers);
  }
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    linear.layers.push_back(
        types.empty() ? layer % 2 == 1 : types[static_cast<size_t>(layer)] == "linear_attention");
  }
  c.linear = linear;
  return c;
}

ModelConfig read_m2(const ConfigReader& config) {
  ModelConfig c = read_both(config);
  c.experts->sigmoid = c.experts->bias = true;
  c.query_key_norm = QueryKeyNorm::all;
  config.only<bool>("use_qk_norm", true);
  read_rotary_dims(config, c);
  return c;
}

/// The makers' own files.
ModelConfig read_makers(const ConfigReader& config) {
  ModelConfig c = read_01(config);
  read_rotary_dims(config, c);
  return c;
}

Place place(const ModelConfig& c, const std::string& parameter) {
  static constexpr std::pair<const char*, const char*> names[] = {
      {"mlp.gate.e_score", "block_sparse_moe.e_score"},
      {"mlp.gate.", "block_sparse_moe.gate."},
      {"mlp.experts.", "block_sparse_moe.experts."},
      {".gate_proj.", ".w1."},
      {".down_proj.", ".w2."},
      {".up_proj.", ".w3."}};
  Place place{.name = renamed(parameter, names)};
  const int64_t layer = layer_of(parameter);
  if (layer < 0 || !c.is_linear(layer)) return place;
  static constexpr std::pair<const char*, const char*> output[] = {{"o_proj", "out_proj"}};
  place.name = renamed(place.name, output);
  part_of_fused(place, "self_attn.qkv_proj", c.heads, c.head_dim);
  return place;
}

/// Tables that follow from the config, and M2's layers that predict further tokens.
bool ignored(const ModelConfig& c, const std::string& tensor) {
  for (const char* name : {"slope_rate", "query_decay", "key_decay", "diagonal_decay"}) {
    if (tensor.ends_with(std::string(".self_attn.") + name)) return true;
  }
  return beyond_last_layer(c, tensor);
}

}  // namespace

extern const Family minimax_family, minimax_01_family, minimax_m2_family;
const Family minimax_family = {.name = "minimax",
                               .architectures = {"MiniMaxForCausalLM"},
                               .read = read_01,
                               .place = place,
                               .ignored = ignored};
const Family minimax_01_family = {
    .name = "minimax_01",
    .architectures = {"MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"},
    .read = read_makers,
    .place = place,
    .ignored = ignored};
const Family minimax_m2_family = {.name = "minimax_m2",
                                  .architectures = {"MiniMaxM2ForCausalLM"},
                                  .read = read_m2,
                                  .place = place,
                                  .ignored = ignored};

}  // namespace resurface
