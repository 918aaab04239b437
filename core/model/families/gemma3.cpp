// Gemma 3, text (arXiv 2503.19786): Gemma 2 with normalised queries and keys instead of capped
// scores; five layers with a window and a rotary embedding of their own to one without.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  config.only<bool>("use_bidirectional_attention", false);
  ModelConfig c = read_gemma(config);
  c.query_key_norm = QueryKeyNorm::head;
  const int64_t pattern = config.positive("sliding_window_pattern", 6);
  c.windows = read_windows(config, c.layers, config.get<int64_t>("sliding_window", 4096),
                           [&](int64_t layer) { return (layer + 1) % pattern != 0; });
  if (!config.has("rope_theta")) c.rope->theta = 1e6;
  c.local_rope = Rope{.theta = config.get<double>("rope_local_base_freq", 10000)};
  // transformers 5: one entry a kind of layer.
  if (config.has("rope_parameters") && config.at("rope_parameters").has("full_attention")) {
    const ConfigReader kinds = config.at("rope_parameters");
    const auto of = [&](const char* kind) {
      const nlohmann::json one = {{"rope_parameters", kinds.at(kind).json}};
      return read_rope({one, kinds.where + ": " + kind}, c.context);
    };
    c.rope = of("full_attention");
    c.local_rope = of("sliding_attention");
  }
  return c;
}

}  // namespace

extern const Family gemma3_family;
const Family gemma3_family = {
    .name = "gemma3_text", .architectures = {"Gemma3ForCausalLM"}, .read = read};

}  // namespace resurface
