// Gemma 2 (arXiv 2408.00118): norms on both sides of attention and MLP, capped scores and logits,
// windows in every other layer.
#include <cmath>

#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_gemma(config);
  c.attention_softcap = config.get<double>("attn_logit_softcapping", 0);
  c.windows = read_windows(config, c.layers, config.get<int64_t>("sliding_window", 4096),
                           [](int64_t layer) { return layer % 2 == 0; });
  return c;
}

}  // namespace

ModelConfig read_gemma(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.head_dim = config.positive("head_dim", 256);
  c.norm = NormKind::rms_plus_one;
  c.post_norms = true;
  c.activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  c.tied_head = config.get<bool>("tie_word_embeddings", true);
  c.qkv_bias = c.output_bias = config.get<bool>("attention_bias", false);
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  c.attention_scale = 1 / std::sqrt(config.get<double>("query_pre_attn_scalar", 256));
  c.logit_softcap = config.get<double>("final_logit_softcapping", 0);
  return c;
}

extern const Family gemma2_family;
const Family gemma2_family = {
    .name = "gemma2", .architectures = {"Gemma2ForCausalLM"}, .read = read};

}  // namespace resurface
