#include "core/model/families.h"

#include <algorithm>
#include <cmath>

namespace resurface {

extern const Family deepseek_v2_family, deepseek_v3_family, gemma2_family, gemma3_family,
    gpt2_family, gpt_neox_family, gptj_family, llama_family, minimax_family, minimax_01_family,
    minimax_m2_family, mistral_family, pangu_embedded_family, pangu_pro_family, pangu_ultra_family,
    phi3_family, qwen2_family, qwen3_family, qwen3_moe_family;

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      gpt2_family,           gpt_neox_family,  gptj_family,       llama_family,
      mistral_family,        qwen2_family,     qwen3_family,      qwen3_moe_family,
      gemma2_family,         gemma3_family,    phi3_family,       deepseek_v2_family,
      deepseek_v3_family,    minimax_family,   minimax_01_family, minimax_m2_family,
      pangu_embedded_family, pangu_pro_family, pangu_ultra_family};
  return all;
}

const Family& family_of(const ModelConfig& config) {
  for (const Family& family : families()) {
    if (config.family == family.name) return family;
  }
  fail("no family is called '{}'", config.family);
}

Place place_of(const ModelConfig& config, const std::string& parameter) {
  const Family& family = family_of(config);
  return family.place == nullptr ? Place{parameter} : family.place(config, parameter);
}

std::string renamed(std::string name,
                    std::span<const std::pair<const char*, const char*>> replacements) {
  for (const auto& [from, to] : replacements) {
    const auto at = name.find(from);
    if (at != std::string::npos) name.replace(at, std::string_view(from).size(), to);
  }
  return name;
}

int64_t layer_of(const std::string& name) {
  constexpr std::string_view kPrefix = "model.layers.";
  return name.starts_with(kPrefix) ? std::atoll(name.c_str() + kPrefix.size()) : -1;
}

bool beyond_last_layer(const ModelConfig& config, const std::string& tensor) {
  return layer_of(tensor) >= config.layers;
}

bool causal_mask(const ModelConfig&, const std::string& tensor) {
  return tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias");
}

void part_of_fused(Place& place, std::string_view fused, int64_t groups, int64_t rows) {
  int64_t part = 0;
  for (const std::string_view one : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}) {
    if (const auto at = place.name.find(one); at != std::string::npos) {
      place.name.replace(at, one.size(), fused);
      place.groups = groups;
      place.begin = part * rows;
      place.rows = rows;
      return;
    }
    ++part;
  }
}

at::Tensor Place::of(const at::Tensor& stored) const {
  at::Tensor turned = transposed && stored.dim() == 2 ? stored.t() : stored;
  if (rows == 0) return turned;
  if (turned.size(0) % groups != 0 || begin + rows > turned.size(0) / groups) {
    fail("tensor '{}' has {} rows, which do not hold {} groups with rows {} to {}", name,
         turned.size(0), groups, begin, begin + rows);
  }
  return turned.unflatten(0, {groups, turned.size(0) / groups}).narrow(1, begin, rows);
}

at::Tensor Place::shaped(const at::Tensor& parameter) const {
  return rows == 0 ? parameter : parameter.unflatten(0, {groups, rows});
}

std::string read_activation(const ConfigReader& config, const std::string& key,
                            const std::string& otherwise) {
  const auto name = config.get<std::string>(key, otherwise);
  if (name == "silu" || name == "swish") return "silu";
  if (name == "gelu") return "gelu";
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return "gelu_tanh";
  fail("{}: {} '{}' is not implemented; known: silu, gelu, gelu_new, gelu_pytorch_tanh",
       config.where, key, name);
}

Rope read_rope(const ConfigReader& config, int64_t context) {
  Rope rope;
  // transformers 5 moved theta and the scaling into "rope_parameters".
  static const nlohmann::json none = nlohmann::json::object();
  const ConfigReader parameters =
      config.has("rope_parameters") ? config.at("rope_parameters") : ConfigReader{none, ""};
  rope.theta = parameters.get<double>("rope_theta", config.get<double>("rope_theta", 10000));
  const ConfigReader scaling = config.has("rope_scaling") ? config.at("rope_scaling") : parameters;
  rope.type = scaling.get<std::string>("rope_type", scaling.get<std::string>("type", "default"));
  if (rope.type == "su") rope.type = "longrope";  // what the first Phi-3 files called it
  if (rope.type == "default") return rope;
  if (rope.type == "longrope") {
    rope.short_factor = scaling.get<std::vector<double>>("short_factor");
    rope.long_factor = scaling.get<std::vector<double>>("long_factor");
    rope.original_context = config.positive("original_max_position_embeddings", context);
    // The ratio of the two contexts is the factor, whatever the file calls so.
    const double factor =
        config.has("original_max_position_embeddings")
            ? static_cast<double>(context) / static_cast<double>(rope.original_context)
            : scaling.get<double>("factor", 1);
    const double otherwise =
        factor <= 1 ? 1
                    : std::sqrt(1 + std::log(factor) /
                                        std::log(static_cast<double>(rope.original_context)));
    rope.attention_factor = scaling.get<double>("attention_factor", otherwise);
    return rope;
  }
  if (rope.type != "linear" && rope.type != "llama3" && rope.type != "yarn") {
    fail("{}: rope scaling '{}' is not implemented; known: default, linear, llama3, yarn, longrope",
         config.where, rope.type);
  }
  rope.factor = scaling.get<double>("factor");
  if (rope.type == "llama3") {
    rope.low_freq_factor = scaling.get<double>("low_freq_factor");
    rope.high_freq_factor = scaling.get<double>("high_freq_factor");
    rope.original_context = scaling.positive("original_max_position_embeddings");
  } else if (rope.type == "yarn") {
    rope.original_context = scaling.positive("original_max_position_embeddings", context);
    rope.beta_fast = scaling.get<double>("beta_fast", 32);
    rope.beta_slow = scaling.get<double>("beta_slow", 1);
    rope.truncate = scaling.get<bool>("truncate", true);
    const double scale = scaling.get<double>("mscale", 0);
    const double all = scaling.get<double>("mscale_all_dim", 0);
    const double otherwise = scale != 0 && all != 0
                                 ? yarn_scale(rope.factor, scale) / yarn_scale(rope.factor, all)
                                 : yarn_scale(rope.factor, 1);
    rope.attention_factor = scaling.get<double>("attention_factor", otherwise);
  }
  return rope;
}

std::vector<int64_t> read_windows(const ConfigReader& config, int64_t layers, int64_t window,
                                  const std::function<bool(int64_t layer)>& slides) {
  std::vector<std::string> types;
  if (config.has("layer_types")) {
    types = config.get<std::vector<std::string>>("layer_types");
    if (std::ssize(types) != layers) {
      fail("{}: layer_types has {} entries for {} layers", config.where, types.size(), layers);
    }
  }
  std::vector<int64_t> windows;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto type = types.empty() ? std::string(slides(layer) ? "sliding_attention" : "")
                                    : types[static_cast<size_t>(layer)];
    if (!type.empty() && type != "sliding_attention" && type != "full_attention") {
      fail("{}: layer type '{}' is not implemented for this family", config.where, type);
    }
    windows.push_back(type == "sliding_attention" ? window : 0);
  }
  const bool any = std::any_of(windows.begin(), windows.end(), [](int64_t w) { return w > 0; });
  return any ? windows : std::vector<int64_t>();
}

ModelConfig read_common(const ConfigReader& config) {
  ModelConfig c;
  c.vocab_size = config.positive("vocab_size");
  c.hidden_size = config.positive("hidden_size");
  c.intermediate_size = config.positive("intermediate_size");
  c.layers = config.count("num_hidden_layers");
  c.heads = config.positive("num_attention_heads");
  c.kv_heads = config.positive("num_key_value_heads", c.heads);
  c.head_dim = config.positive("head_dim", c.hidden_size / c.heads);
  c.context = config.positive("max_position_embeddings");
  c.norm_eps = config.get<double>("rms_norm_eps", 1e-6);
  c.tied_head = config.get<bool>("tie_word_embeddings", false);
  c.activation = read_activation(config, "hidden_act", "silu");
  c.rope = read_rope(config, c.context);
  return c;
}

void check_heads(const ModelConfig& c, const std::string& where) {
  if (c.heads % c.kv_heads != 0) {
    fail("{}: num_attention_heads {} is no multiple of num_key_value_heads {}", where, c.heads,
         c.kv_heads);
  }
  const auto rotary = [&](const std::optional<Rope>& rope) {
    if (!rope) return;
    const int64_t head = c.latent ? c.latent->rope_dims : c.head_dim;
    const int64_t dims = rope->dims > 0 ? rope->dims : head;
    if (dims % 2 != 0 || dims > head) {
      fail("{}: {} dimensions of a head are to turn; expected an even number up to {}", where, dims,
           head);
    }
    for (const auto* factors : {&rope->short_factor, &rope->long_factor}) {
      if (!factors->empty() && std::ssize(*factors) != dims / 2) {
        fail("{}: rope_scaling has {} factors for {} pairs of dimensions", where, factors->size(),
             dims / 2);
      }
    }
  };
  rotary(c.rope);
  rotary(c.local_rope);
}

ModelConfig read_model_config(const nlohmann::json& json, const std::string& where) {
  const ConfigReader config{json, where};
  const auto names = config.get<std::vector<std::string>>("architectures");
  std::vector<std::string> known;
  for (const Family& family : families()) {
    for (const auto& architecture : family.architectures) {
      known.push_back(architecture);
      if (names.size() != 1 || names[0] != architecture) continue;
      ModelConfig c = family.read(config);
      c.family = family.name;
      check_heads(c, where);
      return c;
    }
  }
  fail("{}: architecture {} is not implemented; known: {}", where,
       names.empty() ? "(none)" : names[0], fmt::join(known, ", "));
}

}  // namespace resurface
