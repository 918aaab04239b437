// Checkpoints in another dtype, cut into shards, or out of a PyTorch state dict.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>

namespace resurface {

struct ConvertOptions {
  std::optional<at::ScalarType> dtype;  ///< of the floating-point tensors; as they are without
  uint64_t shard_size = 0;              ///< bytes of tensors a shard at most; 0: one file
};

/// Writes the checkpoint folder `src` to the folder `dst` (config.json's torch_dtype follows, the
/// other files come along). A single tensor larger than a shard gets its own. Values that overflow
/// the asked dtype are an Error, and so are formats it does not read (GGUF: scripts/gguf_to_hf.py
/// does), by name.
void convert_checkpoint(const std::filesystem::path& src, const std::filesystem::path& dst,
                        const ConvertOptions& options);

}  // namespace resurface
