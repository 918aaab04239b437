// openPangu-Embedded (arXiv 2505.22375): Llama with biases in attention. Pangu Pro MoE (arXiv
// 2505.21411): experts in groups, of each of which a token uses one. Pangu Ultra MoE (arXiv
// 2505.04519): DeepSeek-V3 with norms on both sides, in words of its own.
#include <algorithm>

#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read_embedded(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.qkv_bias = c.output_bias = config.get<bool>("bias", true);
  return c;
}

ModelConfig read_pro(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.qkv_bias = c.output_bias = true;
  Experts e;
  e.count = config.count("num_experts");
  e.per_token = e.groups = config.positive("num_experts_per_tok");
  e.width = config.positive("moe_intermediate_size");
  e.shared = config.get<int64_t>("shared_expert_intermediate_size", 0);
  e.one_a_group = e.scaled = true;
  if (e.count % e.groups != 0) {
    fail("{}: num_experts {} is no multiple of num_experts_per_tok {}", config.where, e.count,
         e.groups);
  }
  const auto dense = config.get<std::vector<int64_t>>("mlp_only_layers", {});
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    e.layers.push_back(std::find(dense.begin(), dense.end(), layer) == dense.end());
  }
  c.experts = e;
  return c;
}

Place place_pro(const ModelConfig&, const std::string& parameter) {
  static constexpr std::pair<const char*, const char*> names[] = {
      {"mlp.shared_experts.", "mlp.shared_expert."}};
  return {.name = renamed(parameter, names)};
}

ModelConfig read_ultra(const ConfigReader& config) {
  nlohmann::json words = config.json;
  constexpr std::pair<const char*, const char*> deepseeks[] = {
      {"attention_kv_lora_dim", "kv_lora_rank"},  {"attention_q_lora_dim", "q_lora_rank"},
      {"attention_qk_dim", "qk_nope_head_dim"},   {"attention_qk_rope_dim", "qk_rope_head_dim"},
      {"attention_v_dim", "v_head_dim"},          {"num_routed_experts", "n_routed_experts"},
      {"num_shared_experts", "n_shared_experts"}, {"num_dense_layers", "first_k_dense_replace"}};
  for (const auto& [own, theirs] : deepseeks) {
    if (config.has(own)) words[theirs] = words[own];
  }
  ModelConfig c = read_deepseek({words, config.where});
  c.post_norms = config.get<bool>("sandwich_norm", false);
  if (c.experts) {
    c.experts->sigmoid = true;
    c.experts->bias = config.get<bool>("router_enable_expert_bias", false);
    c.experts->normalise = config.get<bool>("norm_topk_prob", true);
  }
  return c;
}

Place place_ultra(const ModelConfig&, const std::string& parameter) {
  static constexpr std::pair<const char*, const char*> names[] = {
      {"pre_feedforward_layernorm", "pre_mlp_layernorm"},
      {"post_feedforward_layernorm", "post_mlp_layernorm"}};
  return {.name = renamed(parameter, names)};
}

}  // namespace

extern const Family pangu_embedded_family, pangu_pro_family, pangu_ultra_family;
const Family pangu_embedded_family = {
    .name = "PanguEmbedded", .architectures = {"PanguEmbeddedForCausalLM"}, .read = read_embedded};
const Family pangu_pro_family = {.name = "PanguProMoE",
                                 .architectures = {"PanguProMoEForCausalLM"},
                                 .read = read_pro,
                                 .place = place_pro};
const Family pangu_ultra_family = {.name = "pangu_ultra_moe",
                                   .architectures = {"PanguUltraMoEForCausalLM"},
                                   .read = read_ultra,
                                   .place = place_ultra,
                                   .ignored = beyond_last_layer};

}  // namespace resurface
