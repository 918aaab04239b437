// Phi-3, Phi-3.5 and Phi-4 (arXiv 2404.14219, 2412.08905): Llama with queries, keys and values in
// one tensor, gate and up in another; the rotary embedding may leave part of a head alone.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  const double share = config.has("rope_parameters")
                           ? config.at("rope_parameters").get<double>("partial_rotary_factor", 1)
                           : config.get<double>("partial_rotary_factor", 1);
  c.rope->dims = static_cast<int64_t>(static_cast<double>(c.head_dim) * share);
  const auto window = config.get<int64_t>("sliding_window", 0);
  if (window > 0) c.windows.assign(static_cast<size_t>(c.layers), window);
  return c;
}

Place place(const ModelConfig& c, const std::string& parameter) {
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, f = c.intermediate_size;
  struct Part {
    const char *name, *stored;
    int64_t begin, rows;
  };
  const Part parts[] = {{"self_attn.q_proj", "self_attn.qkv_proj", 0, q},
                        {"self_attn.k_proj", "self_attn.qkv_proj", q, kv},
                        {"self_attn.v_proj", "self_attn.qkv_proj", q + kv, kv},
                        {"mlp.gate_proj", "mlp.gate_up_proj", 0, f},
                        {"mlp.up_proj", "mlp.gate_up_proj", f, f}};
  Place place{.name = parameter};
  for (const auto& [name, stored, begin, rows] : parts) {
    const auto at = parameter.find(name);
    if (at == std::string::npos) continue;
    place.name.replace(at, std::string_view(name).size(), stored);
    place.begin = begin;
    place.rows = rows;
  }
  return place;
}

}  // namespace

extern const Family phi3_family;
const Family phi3_family = {
    .name = "phi3", .architectures = {"Phi3ForCausalLM"}, .read = read, .place = place};

}  // namespace resurface
