// Llama 2, 3, 3.1 and 3.2 (arXiv 2307.09288, 2407.21783). What a checkpoint of this family calls
// its tensors is what the decoder calls its parameters.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.qkv_bias = c.output_bias = config.get<bool>("attention_bias", false);
  c.mlp_bias = config.get<bool>("mlp_bias", false);
  return c;
}

}  // namespace

extern const Family llama_family;
const Family llama_family = {.name = "llama", .architectures = {"LlamaForCausalLM"}, .read = read};

nlohmann::json write_model_config(const ModelConfig& c) {
  if (c.family != "llama") {
    fail("a config.json is written for new Llama models alone, not for '{}'", c.family);
  }
  nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                           {"model_type", "llama"},
                           {"vocab_size", c.vocab_size},
                           {"hidden_size", c.hidden_size},
                           {"intermediate_size", c.intermediate_size},
                           {"num_hidden_layers", c.layers},
                           {"num_attention_heads", c.heads},
                           {"num_key_value_heads", c.kv_heads},
                           {"head_dim", c.head_dim},
                           {"max_position_embeddings", c.context},
                           {"rms_norm_eps", c.norm_eps},
                           {"rope_theta", c.rope->theta},
                           {"tie_word_embeddings", c.tied_head},
                           {"attention_bias", c.qkv_bias},
                           {"mlp_bias", c.mlp_bias},
                           {"hidden_act", "silu"}};
  if (c.rope->type != "default") {
    config["rope_scaling"] = {{"rope_type", c.rope->type}, {"factor", c.rope->factor}};
    if (c.rope->type == "llama3") {
      config["rope_scaling"]["low_freq_factor"] = c.rope->low_freq_factor;
      config["rope_scaling"]["high_freq_factor"] = c.rope->high_freq_factor;
      config["rope_scaling"]["original_max_position_embeddings"] = c.rope->original_context;
    }
  }
  return config;
}

}  // namespace resurface
