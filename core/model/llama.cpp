// The Llama family: LlamaForCausalLM's config.json to the decoder's typed settings.
#include <cmath>
#include <set>

#include "core/model/config.h"
#include "core/run/error.h"

namespace resurface {
namespace {

using nlohmann::json;

template <class T>
T get(const json& config, const std::string& where, const std::string& key) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) fail("{}: '{}' is missing", where, key);
  try {
    return it->get<T>();
  } catch (const json::exception&) {
    fail("{}: '{}' has the wrong type: {}", where, key, it->dump());
  }
}

template <class T>
T get_or(const json& config, const std::string& where, const std::string& key, T fallback) {
  const auto it = config.find(key);
  return it == config.end() || it->is_null() ? fallback : get<T>(config, where, key);
}

int64_t positive(const json& config, const std::string& where, const std::string& key) {
  const auto value = get<int64_t>(config, where, key);
  if (value <= 0) fail("{}: '{}' is {}, expected a positive number", where, key, value);
  return value;
}

Rope read_rope(const json& config, const std::string& where) {
  Rope rope;
  // transformers 5 moved theta and the scaling into "rope_parameters".
  const json parameters = get_or<json>(config, where, "rope_parameters", json::object());
  rope.theta = get_or<double>(parameters, where, "rope_theta",
                              get_or<double>(config, where, "rope_theta", 10000));
  const json scaling = get_or<json>(config, where, "rope_scaling", parameters);
  if (!scaling.is_object() || scaling.empty()) return rope;
  rope.type = get_or<std::string>(scaling, where, "rope_type",
                                  get_or<std::string>(scaling, where, "type", "default"));
  if (rope.type == "default") return rope;
  if (rope.type != "linear" && rope.type != "llama3") {
    fail("{}: rope scaling '{}' is not implemented; known: default, linear, llama3", where,
         rope.type);
  }
  rope.factor = get<double>(scaling, where, "factor");
  if (rope.type == "llama3") {
    rope.low_freq_factor = get<double>(scaling, where, "low_freq_factor");
    rope.high_freq_factor = get<double>(scaling, where, "high_freq_factor");
    rope.original_context = positive(scaling, where, "original_max_position_embeddings");
  }
  return rope;
}

}  // namespace

std::vector<double> Rope::inverse_frequencies(int64_t head_dim) const {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim; i += 2) {
    double f = std::pow(theta, -static_cast<double>(i) / static_cast<double>(head_dim));
    if (type == "linear") {
      f /= factor;
    } else if (type == "llama3") {
      // Long wavelengths are stretched, short ones kept, those between interpolated.
      const double turns = static_cast<double>(original_context) * f / (2 * M_PI);
      const double smooth =
          std::clamp((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0);
      f = (1 - smooth) * f / factor + smooth * f;
    }
    frequencies.push_back(f);
  }
  return frequencies;
}

int64_t ModelConfig::parameters() const {
  const int64_t q = heads * head_dim, kv = kv_heads * head_dim;
  int64_t block =
      hidden_size * (2 * q + 2 * kv) + 3 * hidden_size * intermediate_size + 2 * hidden_size;
  if (attention_bias) block += q + 2 * kv + hidden_size;
  if (mlp_bias) block += 2 * intermediate_size + hidden_size;
  return layers * block + hidden_size + (tied_head ? 1 : 2) * vocab_size * hidden_size;
}

ModelConfig read_model_config(const json& config, const std::string& where) {
  const auto names = get<std::vector<std::string>>(config, where, "architectures");
  if (names.size() != 1 || names[0] != "LlamaForCausalLM") {
    fail("{}: architecture {} is not implemented; known: LlamaForCausalLM", where,
         names.empty() ? "(none)" : names[0]);
  }
  ModelConfig c;
  c.family = "llama";
  c.vocab_size = positive(config, where, "vocab_size");
  c.hidden_size = positive(config, where, "hidden_size");
  c.intermediate_size = positive(config, where, "intermediate_size");
  c.layers = positive(config, where, "num_hidden_layers");
  c.heads = positive(config, where, "num_attention_heads");
  c.kv_heads = get_or<int64_t>(config, where, "num_key_value_heads", c.heads);
  c.head_dim = get_or<int64_t>(config, where, "head_dim", c.hidden_size / c.heads);
  c.context = positive(config, where, "max_position_embeddings");
  c.norm_eps = get_or<double>(config, where, "rms_norm_eps", 1e-6);
  c.tied_head = get_or<bool>(config, where, "tie_word_embeddings", false);
  c.attention_bias = get_or<bool>(config, where, "attention_bias", false);
  c.mlp_bias = get_or<bool>(config, where, "mlp_bias", false);
  c.rope = read_rope(config, where);
  if (c.kv_heads <= 0 || c.heads % c.kv_heads != 0) {
    fail("{}: num_attention_heads {} is no multiple of num_key_value_heads {}", where, c.heads,
         c.kv_heads);
  }
  if (c.head_dim <= 0 || c.head_dim % 2 != 0) {
    fail("{}: head_dim {} must be positive and even", where, c.head_dim);
  }
  const auto activation = get_or<std::string>(config, where, "hidden_act", "silu");
  if (activation != "silu") {
    fail("{}: hidden_act '{}' is not implemented for this family; known: silu", where, activation);
  }
  if (config.contains("quantization_config") && !config["quantization_config"].is_null()) {
    fail(
        "{}: quantised weights ({}) are not read; convert the checkpoint to fp32, bf16 or fp16 "
        "first",
        where, config["quantization_config"].value("quant_method", "unnamed method"));
  }
  return c;
}

json write_model_config(const ModelConfig& c) {
  json config = {{"architectures", {"LlamaForCausalLM"}},
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
                 {"rope_theta", c.rope.theta},
                 {"tie_word_embeddings", c.tied_head},
                 {"attention_bias", c.attention_bias},
                 {"mlp_bias", c.mlp_bias},
                 {"hidden_act", "silu"}};
  if (c.rope.type != "default") {
    config["rope_scaling"] = {{"rope_type", c.rope.type}, {"factor", c.rope.factor}};
    if (c.rope.type == "llama3") {
      config["rope_scaling"]["low_freq_factor"] = c.rope.low_freq_factor;
      config["rope_scaling"]["high_freq_factor"] = c.rope.high_freq_factor;
      config["rope_scaling"]["original_max_position_embeddings"] = c.rope.original_context;
    }
  }
  return config;
}

}  // namespace resurface
