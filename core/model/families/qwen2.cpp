// Qwen2 and Qwen2.5 (arXiv 2407.10671), and the R1 distillates made from them: Llama with biases on
// queries, keys and values, and windows in the upper layers where the file asks for them.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.qkv_bias = true;
  read_qwen_windows(config, c);
  return c;
}

}  // namespace

void read_qwen_windows(const ConfigReader& config, ModelConfig& c) {
  if (!config.get<bool>("use_sliding_window", false)) return;
  const auto first = config.get<int64_t>("max_window_layers", 28);
  c.windows = read_windows(config, c.layers, config.get<int64_t>("sliding_window", 4096),
                           [&](int64_t layer) { return layer >= first; });
}

extern const Family qwen2_family;
const Family qwen2_family = {.name = "qwen2", .architectures = {"Qwen2ForCausalLM"}, .read = read};

}  // namespace resurface
