// GPT-NeoX and Pythia (arXiv 2204.06745, 2304.01373): attention and MLP side by side, a quarter of
// each head turns; queries, keys and values in one tensor, head after head.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.norm = NormKind::layer;
  c.norm_eps = config.get<double>("layer_norm_eps", 1e-5);
  c.parallel = config.get<bool>("use_parallel_residual", true);
  c.activation = read_activation(config, "hidden_act", "gelu");
  c.gated = false;
  if (config.has("rotary_emb_base")) c.rope->theta = config.get<double>("rotary_emb_base");
  const double share = config.has("rope_parameters")
                           ? config.at("rope_parameters").get<double>("partial_rotary_factor", 0.25)
                           : config.get<double>("rotary_pct", 0.25);
  c.rope->dims = static_cast<int64_t>(static_cast<double>(c.head_dim) * share);
  c.qkv_bias = c.output_bias = config.get<bool>("attention_bias", true);
  c.mlp_bias = true;
  return c;
}

Place place(const ModelConfig& c, const std::string& parameter) {
  static constexpr std::pair<const char*, const char*> names[] = {
      {"lm_head", "embed_out"},
      {"model.embed_tokens", "gpt_neox.embed_in"},
      {"model.norm", "gpt_neox.final_layer_norm"},
      {"model.layers.", "gpt_neox.layers."},
      {"self_attn.o_proj", "attention.dense"},
      {"mlp.up_proj", "mlp.dense_h_to_4h"},
      {"mlp.down_proj", "mlp.dense_4h_to_h"}};
  Place place{.name = renamed(parameter, names)};
  part_of_fused(place, "attention.query_key_value", c.heads, c.head_dim);
  return place;
}

/// Older files carry the causal mask.
bool ignored(const ModelConfig&, const std::string& tensor) {
  return tensor.ends_with(".attention.bias") || tensor.ends_with(".attention.masked_bias");
}

}  // namespace

extern const Family gpt_neox_family;
const Family gpt_neox_family = {.name = "gpt_neox",
                                .architectures = {"GPTNeoXForCausalLM"},
                                .read = read,
                                .place = place,
                                .ignored = ignored};

}  // namespace resurface
