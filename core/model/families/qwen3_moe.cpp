// Qwen3-MoE (arXiv 2505.09388): Qwen3 with routed experts and no shared one.
#include <algorithm>

#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.qkv_bias = c.output_bias = config.get<bool>("attention_bias", false);
  c.query_key_norm = QueryKeyNorm::head;
  if (config.get<bool>("use_sliding_window", false)) {
    c.windows.assign(static_cast<size_t>(c.layers), config.get<int64_t>("sliding_window", 4096));
  }
  Experts e;
  e.count = config.count("num_experts", config.count("num_local_experts", 128));
  e.per_token = config.positive("num_experts_per_tok", 8);
  e.width = config.positive("moe_intermediate_size", 768);
  e.normalise = config.get<bool>("norm_topk_prob", false);
  const auto dense = config.get<std::vector<int64_t>>("mlp_only_layers", {});
  const int64_t step = config.positive("decoder_sparse_step", 1);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    e.layers.push_back(std::find(dense.begin(), dense.end(), layer) == dense.end() &&
                       (layer + 1) % step == 0);
  }
  c.experts = e;
  return c;
}

}  // namespace

extern const Family qwen3_moe_family;
const Family qwen3_moe_family = {
    .name = "qwen3_moe", .architectures = {"Qwen3MoeForCausalLM"}, .read = read};

}  // namespace resurface
