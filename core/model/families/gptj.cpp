// GPT-J 6B (Wang and Komatsuzaki 2021): attention and MLP side by side behind one norm, rotary
// embedding of interleaved pairs, a head with a bias.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c;
  c.vocab_size = config.positive("vocab_size");
  c.hidden_size = config.positive("n_embd");
  c.layers = config.count("n_layer");
  c.heads = c.kv_heads = config.positive("n_head");
  c.head_dim = c.hidden_size / c.heads;
  c.intermediate_size = config.positive("n_inner", 4 * c.hidden_size);
  c.context = config.positive("n_positions", 2048);
  c.norm = NormKind::layer;
  c.norm_eps = config.get<double>("layer_norm_epsilon", 1e-5);
  c.parallel = c.one_norm = true;
  c.activation = read_activation(config, "activation_function", "gelu_new");
  c.gated = false;
  c.rope = Rope{.dims = config.positive("rotary_dim"), .interleaved = true};
  c.tied_head = config.get<bool>("tie_word_embeddings", false);
  c.head_bias = c.mlp_bias = true;
  return c;
}

Place place(const ModelConfig&, const std::string& parameter) {
  static constexpr std::pair<const char*, const char*> names[] = {
      {"model.embed_tokens", "transformer.wte"},
      {"model.norm", "transformer.ln_f"},
      {"model.layers.", "transformer.h."},
      {"input_layernorm", "ln_1"},
      {"self_attn.o_proj", "attn.out_proj"},
      {"self_attn.", "attn."},
      {"mlp.up_proj", "mlp.fc_in"},
      {"mlp.down_proj", "mlp.fc_out"}};
  return {.name = renamed(parameter, names)};
}

}  // namespace

extern const Family gptj_family;
const Family gptj_family = {.name = "gptj",
                            .architectures = {"GPTJForCausalLM"},
                            .read = read,
                            .place = place,
                            .ignored = causal_mask};

}  // namespace resurface
