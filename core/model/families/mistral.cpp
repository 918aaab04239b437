// Mistral 7B (arXiv 2310.06825): Llama with a window in every layer.
#include "core/model/families.h"

namespace resurface {
namespace {

ModelConfig read(const ConfigReader& config) {
  ModelConfig c = read_common(config);
  // A file without the key means 4096, one with null no window.
  const int64_t window =
      config.json.contains("sliding_window") ? config.get<int64_t>("sliding_window", 0) : 4096;
  if (window > 0) c.windows.assign(static_cast<size_t>(c.layers), window);
  return c;
}

}  // namespace

extern const Family mistral_family;
const Family mistral_family = {
    .name = "mistral", .architectures = {"MistralForCausalLM"}, .read = read};

}  // namespace resurface
