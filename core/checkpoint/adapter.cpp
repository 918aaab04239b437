// LoRA adapters in the format of Python's peft (huggingface/peft, save_pretrained).
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/lora_merge.h"
#include "core/run/error.h"
#include "core/run/files.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kAdapterWeights = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSuffixA = ".lora_A.weight", kSuffixB = ".lora_B.weight",
                           kMagnitude = ".lora_magnitude_vector";

/// What would make an adapter more than LoRA, rsLoRA or DoRA on linear layers.
void check_lora(const fs::path& path, const json& config) {
  auto refuse = [&](const std::string& key) {
    fail("{}: {} = {} is not implemented; LoRA, rsLoRA and DoRA on linear layers are",
         path.string(), key, config.at(key).dump());
  };
  if (!config.contains("peft_type") || config["peft_type"] != "LORA") {
    fail("{}: expected peft_type \"LORA\", got {}", path.string(),
         config.value("peft_type", json()).dump());
  }
  for (const char* key :
       {"lora_bias", "use_qalora", "alora_invocation_tokens", "rank_pattern", "alpha_pattern",
        "modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication"}) {
    const json value = config.value(key, json());
    if (!value.is_null() && value != false && value != json::object() && value != json::array()) {
      refuse(key);
    }
  }
  if (config.contains("bias") && config["bias"] != "none") refuse("bias");
}

}  // namespace

void write_adapter(const fs::path& folder, const std::string& base_model,
                   const std::vector<AdapterTensor>& tensors, int64_t rank, double alpha,
                   bool rslora) {
  check_replaceable(folder, kAdapterConfig);
  std::vector<std::pair<std::string, at::Tensor>> weights;
  json modules = json::array();
  const bool dora = !tensors.empty() && tensors.front().magnitude.defined();
  for (const AdapterTensor& t : tensors) {
    if (t.a.dim() != 2 || t.b.dim() != 2 || t.a.size(0) != rank || t.b.size(1) != rank) {
      fail("adapter of '{}': expected A [{}, in] and B [out, {}], got {} and {}", t.linear, rank,
           rank, c10::str(t.a.sizes()), c10::str(t.b.sizes()));
    }
    weights.emplace_back(fmt::format("{}{}{}", kPrefix, t.linear, kSuffixA), t.a);
    weights.emplace_back(fmt::format("{}{}{}", kPrefix, t.linear, kSuffixB), t.b);
    if (t.magnitude.defined() != dora) fail("adapter of '{}': DoRA on some layers alone", t.linear);
    if (dora)
      weights.emplace_back(fmt::format("{}{}{}", kPrefix, t.linear, kMagnitude), t.magnitude);
    // Whole names: a last part alone ("q_proj") would also match layers that have no adapter.
    modules.push_back(t.linear);
  }
  json config = {{"peft_type", "LORA"},
                 {"task_type", "CAUSAL_LM"},
                 {"base_model_name_or_path", base_model},
                 {"r", rank},
                 {"lora_alpha", alpha},
                 {"lora_dropout", 0.0},
                 {"target_modules", modules},
                 {"bias", "none"},
                 {"fan_in_fan_out", false},
                 {"inference_mode", true},
                 {"init_lora_weights", true},
                 {"modules_to_save", nullptr},
                 {"layers_to_transform", nullptr},
                 {"layers_pattern", nullptr},
                 {"rank_pattern", json::object()},
                 {"alpha_pattern", json::object()},
                 {"use_rslora", rslora},
                 {"use_dora", dora}};
  if (alpha == std::floor(alpha)) config["lora_alpha"] = static_cast<int64_t>(alpha);
  TemporaryFolder out(folder);
  write_safetensors(out.path() / kAdapterWeights, weights);
  write_json(out.path() / kAdapterConfig, config);
  out.commit();
}

std::vector<AdapterTensor> read_adapter(const fs::path& folder, int64_t& rank, double& alpha) {
  fs::path config_path = folder / kAdapterConfig;
  if (!fs::exists(config_path)) {
    fail("{}: {} is missing; is this a PEFT adapter?", folder.string(), kAdapterConfig);
  }
  json config = read_json_object(config_path);
  check_lora(config_path, config);
  for (const char* key : {"r", "lora_alpha"}) {
    if (!config.contains(key) || !config[key].is_number() || config[key] <= 0) {
      fail("{}: {}: expected a number above 0, got {}", config_path.string(), key,
           config.value(key, json()).dump());
    }
  }
  if (!config["r"].is_number_integer()) {
    fail("{}: r: expected a whole number, got {}", config_path.string(), config["r"].dump());
  }
  rank = config["r"].get<int64_t>();
  alpha = config["lora_alpha"].get<double>();
  // rsLoRA's scale is alpha / sqrt(r); ours is alpha / r.
  if (config.value("use_rslora", json(false)) == true)
    alpha *= std::sqrt(static_cast<double>(rank));

  const bool dora = config.value("use_dora", json(false)) == true;
  const TensorFile file = open_adapter_weights(folder);
  std::vector<AdapterTensor> tensors;
  for (const TensorInfo& t : file.tensors()) {
    std::string_view name = t.name;
    if (dora && name.starts_with(kPrefix) && name.ends_with(kMagnitude)) continue;
    bool is_a = name.ends_with(kSuffixA), is_b = name.ends_with(kSuffixB);
    if (!name.starts_with(kPrefix) || !(is_a || is_b)) {
      fail("{}: tensor '{}': expected {}<linear>{} or {}", file.path().string(), t.name, kPrefix,
           kSuffixA, kSuffixB);
    }
    std::string linear(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffixA.size()));
    std::string stem = std::string(kPrefix) + linear;
    std::string name_a = stem + std::string(kSuffixA), name_b = stem + std::string(kSuffixB);
    if (!file.contains(name_a) || !file.contains(name_b)) {
      fail("{}: '{}' has only one of lora_A and lora_B", file.path().string(), linear);
    }
    if (is_b) continue;
    AdapterTensor pair{linear, file.tensor(name_a), file.tensor(name_b)};
    if (pair.a.dim() != 2 || pair.b.dim() != 2 || pair.a.size(0) != rank ||
        pair.b.size(1) != rank) {
      fail("{}: '{}': expected lora_A [{}, in] and lora_B [out, {}], got {} and {}",
           file.path().string(), linear, rank, rank, c10::str(pair.a.sizes()),
           c10::str(pair.b.sizes()));
    }
    if (dora) {
      pair.magnitude = file.tensor(stem + std::string(kMagnitude));
      if (pair.magnitude.sizes() != at::IntArrayRef{pair.b.size(0)}) {
        fail("{}: '{}': expected lora_magnitude_vector [{}], got {}", file.path().string(), linear,
             pair.b.size(0), c10::str(pair.magnitude.sizes()));
      }
    }
    tensors.push_back(std::move(pair));
  }
  if (tensors.empty()) fail("{}: holds no LoRA weights", file.path().string());
  return tensors;
}

}  // namespace resurface
