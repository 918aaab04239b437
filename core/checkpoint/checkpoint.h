// Checkpoints on disk: an HF folder of config.json and safetensors, one file or shards with an
// index.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace resurface {

/// What a safetensors header says of one tensor; every field checked against the file.
struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  ///< bytes within the file
};

/// One safetensors file, mapped read-only. The header is read and every offset checked on opening
/// (range, overlap, size against dtype and shape); no tensor byte is touched until it is asked for.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const;
  const std::vector<TensorInfo>& tensors() const;  ///< in file order
  const std::map<std::string, std::string>& metadata() const;
  bool contains(const std::string& name) const;
  const TensorInfo& info(const std::string& name) const;  ///< throws, naming the nearest
  /// A view of the mapped bytes. Read-only: clone before writing. It keeps the mapping alive.
  at::Tensor tensor(const std::string& name) const;
  std::string_view bytes(const std::string& name) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

/// Writes to a temporary name, syncs and renames; tensors in the order given.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

class Checkpoint {
 public:
  /// Opens a folder; throws Error naming what is missing (config.json, a shard of the index, ...).
  static Checkpoint open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const nlohmann::json& config() const { return config_; }
  std::vector<TensorInfo> tensors() const;  ///< over all shards, in file order
  const std::vector<SafetensorsFile>& files() const { return files_; }  ///< the shards, by name
  bool contains(const std::string& name) const;
  at::Tensor tensor(const std::string& name) const;  ///< read-only view
  /// hash_tensors (tensor_hash.h) of all tensors: the same for any sharding.
  std::string content_hash() const;

  /// Writes an HF folder: `replaced` tensors take the place of those of this checkpoint, in the
  /// dtype that they have (same shape, else Error), or join the last shard; the others keep their
  /// bytes. Shards and metadata stay, the other files come along, but for weights in other formats,
  /// which would be stale. The folder appears whole; one that is there is replaced when it holds a
  /// checkpoint, else Error.
  void save_with(const std::filesystem::path& folder,
                 const std::map<std::string, at::Tensor>& replaced) const;

 private:
  std::filesystem::path folder_;
  nlohmann::json config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> where_;
};

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
