// DeepSeek-V2 (arXiv 2405.04434), DeepSeek-V3 and R1 (arXiv 2412.19437), and Kimi-K2 (arXiv
// 2507.20534), whose files say DeepseekV3ForCausalLM: latent attention, shared and routed experts.
// Layers that predict further tokens (V3, section 2.2) are ignored.
#include <cmath>

#include "core/model/families.h"

namespace resurface {

ModelConfig read_deepseek(const ConfigReader& config) {
  config.only<int64_t>("moe_layer_freq", 1);
  ModelConfig c = read_common(config);
  LatentAttention latent;
  latent.query_rank = config.get<int64_t>("q_lora_rank", 0);
  latent.key_value_rank = config.positive("kv_lora_rank");
  latent.plain_dims = config.positive("qk_nope_head_dim");
  latent.rope_dims = config.positive("qk_rope_head_dim");
  latent.value_dims = config.positive("v_head_dim");
  latent.bias = config.get<bool>("attention_bias", false);
  c.latent = latent;
  c.kv_heads = c.heads;
  c.head_dim = latent.plain_dims + latent.rope_dims;
  c.output_bias = latent.bias;
  c.mlp_bias = config.get<bool>("mlp_bias", false);
  c.rope->interleaved = config.get<bool>("rope_interleave", true);
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (c.rope->type != "yarn" || !config.has(key)) continue;
    const double all = config.at(key).get<double>("mscale_all_dim", 0);
    if (all != 0) c.attention_scale *= std::pow(yarn_scale(c.rope->factor, all), 2);
  }
  if (config.get<int64_t>("n_routed_experts", 0) == 0) return c;
  Experts e;
  e.count = config.count("n_routed_experts");
  e.per_token = config.positive("num_experts_per_tok");
  e.width = config.positive("moe_intermediate_size");
  e.shared = config.get<int64_t>("n_shared_experts", 0) * e.width;
  e.scale = config.get<double>("routed_scaling_factor", 1);
  const auto first = config.get<int64_t>("first_k_dense_replace", 0);
  for (int64_t layer = 0; layer < c.layers; ++layer) e.layers.push_back(layer >= first);
  c.experts = e;
  return c;
}

namespace {

void read_groups(const ConfigReader& config, Experts& e) {
  e.groups = config.positive("n_group", 1);
  e.groups_kept = config.positive("topk_group", 1);
  if (e.count % e.groups != 0 || e.groups_kept > e.groups) {
    fail("{}: {} experts in n_group {} of which topk_group {} are kept do not fit together",
         config.where, e.count, e.groups, e.groups_kept);
  }
}

ModelConfig read_v2(const ConfigReader& config) {
  ModelConfig c = read_deepseek(config);
  if (!c.experts) return c;
  const auto method = config.get<std::string>("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    read_groups(config, *c.experts);
  } else if (method != "greedy") {
    fail("{}: topk_method '{}' is not implemented; known: greedy, group_limited_greedy",
         config.where, method);
  }
  // DeepSeek's code would then leave the scaling out, transformers ignores the key: no file has it.
  config.only<bool>("norm_topk_prob", false);
  return c;
}

ModelConfig read_v3(const ConfigReader& config) {
  config.only<std::string>("scoring_func", "sigmoid");
  config.only<std::string>("topk_method", "noaux_tc");
  ModelConfig c = read_deepseek(config);
  if (!c.experts) return c;
  Experts& e = *c.experts;
  e.sigmoid = e.bias = e.group_by_two = true;
  e.normalise = config.get<bool>("norm_topk_prob", true);
  read_groups(config, e);
  return c;
}

}  // namespace

extern const Family deepseek_v2_family, deepseek_v3_family;
const Family deepseek_v2_family = {.name = "deepseek_v2",
                                   .architectures = {"DeepseekV2ForCausalLM"},
                                   .read = read_v2,
                                   .ignored = beyond_last_layer};
const Family deepseek_v3_family = {.name = "deepseek_v3",
                                   .architectures = {"DeepseekV3ForCausalLM"},
                                   .read = read_v3,
                                   .ignored = beyond_last_layer};

}  // namespace resurface
