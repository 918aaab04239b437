// Qwen3 (arXiv 2505.09388), dense: queries and keys are normalised head by head.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  c.head_dim = config.positive("head_dim", 128);
  c.qkv_bias = c.output_bias = config.get<bool>("attention_bias", false);
  c.query_key_norm = QueryKeyNorm::head;
  read_qwen_windows(config, c);
  return c;
}

}  // namespace

extern const Family qwen3_family;
const Family qwen3_family = {.name = "qwen3", .architectures = {"Qwen3ForCausalLM"}, .read = read};

}  // namespace resurface
