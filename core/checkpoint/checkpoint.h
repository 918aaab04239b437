// Checkpoints on disk: config.json and weights, as safetensors or as torch.save writes them, one
// file or shards with an index, plain or in fp8 with block scales; or a PEFT adapter on such a
// folder. docs/checkpoints.md says what is read, written and refused.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/fp8.h"
#include "core/checkpoint/tensor_file.h"

namespace resurface {

class LoraMerge;

/// Writes to a temporary name, syncs and renames; tensors in the order given.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

class Checkpoint {
 public:
  /// Opens a folder, a file of weights beside its config.json, or a PEFT adapter's folder, which
  /// reads as its merged model: `base` is its base's folder, by default what adapter_config.json
  /// names (from the adapter's folder or the working directory). Throws Error naming what is
  /// missing (config.json, a shard of the index, the base, ...) or not read (a quantisation, ...).
  static Checkpoint open(const std::filesystem::path& path, const std::filesystem::path& base = {});

  const std::filesystem::path& folder() const { return folder_; }    ///< of an adapter: its base's
  const nlohmann::json& config() const { return config_; }           ///< of the merged model
  const std::filesystem::path& adapter() const { return adapter_; }  ///< empty without
  bool fp8() const { return fp8_.has_value(); }
  /// Over all shards, in file order, as tensor() gives them.
  std::vector<TensorInfo> tensors() const;
  const std::vector<TensorFile>& files() const { return files_; }  ///< the shards, by name
  bool contains(const std::string& name) const;
  /// A read-only view of the file, or computed anew at each call: fp8 weights as fp32, their scales
  /// folded in; what an adapter changes.
  at::Tensor tensor(const std::string& name) const;
  /// hash_tensors (tensor_hash.h) of all tensors: the same for any container and sharding.
  std::string content_hash() const;

  /// Writes an HF folder of safetensors: `replaced` tensors take the place of those of this
  /// checkpoint, in the dtype that they have (same shape, else Error), or join the last shard; the
  /// others keep their bytes. fp8 weights stay fp8: those replaced get new scales. Shards and
  /// metadata stay, the other files come along, but for weights in other formats, which would be
  /// stale. The folder appears whole; one that is there is replaced when it holds a checkpoint,
  /// else Error.
  void save_with(const std::filesystem::path& folder,
                 const std::map<std::string, at::Tensor>& replaced) const;

  /// TensorFile::release in whichever file the part lies.
  void release(const at::Tensor& part) const;

 private:
  Checkpoint() = default;
  void open_weights(const std::filesystem::path& path);
  void open_index(const std::filesystem::path& index);
  void check_scales() const;
  bool is_scale(const std::string& name) const;
  bool is_fp8(const std::string& name) const;
  at::Tensor base_tensor(const std::string& name) const;
  const TensorInfo& stored(const std::string& name) const;

  std::filesystem::path folder_, adapter_, index_;
  nlohmann::json config_;
  std::vector<TensorFile> files_;
  std::map<std::string, size_t> where_;
  std::optional<Fp8Format> fp8_;
  std::shared_ptr<const LoraMerge> lora_;
};

/// A file that goes with a checkpoint ("tokenizer.json"): beside its weights or its adapter, else
/// beside the adapter's base. Where there is none, the path at which it was expected.
std::filesystem::path checkpoint_file(const std::filesystem::path& checkpoint,
                                      const std::string& name);

/// Writes a new HF folder from nothing (config.json and one model.safetensors); replaces one that
/// holds a checkpoint.
void write_checkpoint(const std::filesystem::path& folder, const nlohmann::json& config,
                      const std::vector<std::pair<std::string, at::Tensor>>& tensors);

/// A PEFT adapter folder: adapter_config.json and adapter_model.safetensors, as `peft` reads them.
struct AdapterTensor {
  std::string linear;         ///< "model.layers.3.mlp.down_proj"
  at::Tensor a;               ///< [r, in]
  at::Tensor b;               ///< [out, r]
  at::Tensor magnitude = {};  ///< [out] with DoRA, which all layers of an adapter have or none
};
/// The scale is alpha / rank, with `rslora` alpha / sqrt(rank).
void write_adapter(const std::filesystem::path& folder, const std::string& base_model,
                   const std::vector<AdapterTensor>& tensors, int64_t rank, double alpha,
                   bool rslora = false);
/// Reads one back; `alpha / rank` is the scale, whatever the adapter's own rule. What is no LoRA,
/// rsLoRA or DoRA on linear layers is refused by name.
std::vector<AdapterTensor> read_adapter(const std::filesystem::path& folder, int64_t& rank,
                                        double& alpha);

}  // namespace resurface
