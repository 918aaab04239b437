// GPT-2 (Radford et al. 2019). Its linear layers are Conv1D: weights lie as [in, out], queries,
// keys and values in one.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  config.only<bool>("scale_attn_weights", true);
  config.only<bool>("scale_attn_by_inverse_layer_idx", false);
  ModelConfig c;
  c.vocab_size = config.positive("vocab_size");
  c.hidden_size = config.positive("n_embd");
  c.layers = config.count("n_layer");
  c.heads = c.kv_heads = config.positive("n_head");
  c.head_dim = c.hidden_size / c.heads;
  c.intermediate_size = config.positive("n_inner", 4 * c.hidden_size);
  c.context = config.positive("n_positions", 1024);
  c.norm = NormKind::layer;
  c.norm_eps = config.get<double>("layer_norm_epsilon", 1e-5);
  c.activation = read_activation(config, "activation_function", "gelu_new");
  c.gated = false;
  c.learned_positions = true;
  c.rope.reset();
  c.tied_head = config.get<bool>("tie_word_embeddings", true);
  c.qkv_bias = c.output_bias = c.mlp_bias = true;
  return c;
}

Place place(const ModelConfig& c, const std::string& parameter) {
  static constexpr std::pair<const char*, const char*> names[] = {
      {"model.embed_tokens", "transformer.wte"},
      {"model.embed_positions", "transformer.wpe"},
      {"model.norm", "transformer.ln_f"},
      {"model.layers.", "transformer.h."},
      {"input_layernorm", "ln_1"},
      {"post_attention_layernorm", "ln_2"},
      {"self_attn.o_proj", "attn.c_proj"},
      {"mlp.up_proj", "mlp.c_fc"},
      {"mlp.down_proj", "mlp.c_proj"}};
  Place place{.name = renamed(parameter, names),
              .transposed = parameter.find("_proj.") != parameter.npos};
  part_of_fused(place, "attn.c_attn", 1, c.hidden_size);
  return place;
}

}  // namespace

extern const Family gpt2_family;
const Family gpt2_family = {.name = "gpt2",
                            .architectures = {"GPT2LMHeadModel"},
                            .read = read,
                            .place = place,
                            .ignored = causal_mask};

}  // namespace resurface
