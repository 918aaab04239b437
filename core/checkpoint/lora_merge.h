// What a PEFT adapter makes of its base's tensors: W + scale · B A, as peft's merge_and_unload.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/checkpoint/tensor_file.h"

namespace resurface {

inline constexpr const char* kAdapterConfig = "adapter_config.json";

/// The adapter's weights: adapter_model.safetensors, else adapter_model.bin.
TensorFile open_adapter_weights(const std::filesystem::path& folder);

/// LoRA, rsLoRA and DoRA on linear layers (also GPT-2's transposed ones) and embeddings, with
/// patterns of ranks and alphas, and whole tensors that take another's place (modules_to_save,
/// trained biases, resized embeddings). What else peft has is refused by name.
class LoraMerge {
 public:
  /// `base`: the base's tensors, each of which has to be there for the adapter's; its names may
  /// lack the adapter's first part ("transformer.h.0" and "h.0").
  LoraMerge(const std::filesystem::path& folder, const std::vector<TensorInfo>& base);

  bool changes(const std::string& name) const { return changes_.contains(name); }
  /// The base's tensor that `name` starts from; empty where the adapter brings all of it.
  const std::string& origin(const std::string& name) const { return changes_.at(name).origin; }
  /// The merged tensor, in the base's dtype; added up in fp32 at least. `base`: origin's tensor,
  /// undefined where there is none.
  at::Tensor merge(const std::string& name, const at::Tensor& base) const;

  /// Replaces `info` by what merge() gives.
  void describe(TensorInfo& info) const;
  /// Tensors that the base does not have: an output head of its own where the base's is tied.
  std::vector<TensorInfo> added() const { return added_; }
  /// config.json of the merged model: another vocabulary size, a head that is no longer tied.
  void adapt(nlohmann::json& config) const;

 private:
  struct Change {
    std::string origin;
    at::Tensor whole;  ///< takes the base's place before the low-rank part
    at::Tensor a, b, magnitude;
    double scale = 0;
    bool transposed = false;  ///< the base's tensor is [in, out]
  };
  std::string find(const std::string& module, const std::string& leaf);
  void check(const std::string& name, const Change& change, const TensorInfo& base) const;

  std::filesystem::path folder_;
  std::map<std::string, Change> changes_;
  std::map<std::string, TensorInfo> base_;
  std::vector<TensorInfo> added_;
};

}  // namespace resurface
