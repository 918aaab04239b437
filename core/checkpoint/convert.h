// Checkpoints in another dtype, cut into shards, out of another container, from and to GGUF.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>

namespace resurface {

struct ConvertOptions {
  std::optional<at::ScalarType> dtype;  ///< of the floating-point tensors; as they are without
  uint64_t shard_size = 0;              ///< bytes of tensors a shard at most; 0: one file
  std::filesystem::path base;           ///< of a PEFT adapter; what its config names without
  bool q8_0 = false;  ///< matrices of a GGUF file that is written, in blocks of 32
};

/// Writes whatever Checkpoint::open opens, or a GGUF file, to the folder `dst` (config.json's
/// torch_dtype follows, the other files come along); or, when `dst` ends in .gguf, to that file. A
/// single tensor larger than a shard gets its own. fp8 weights stay as they are without a dtype.
/// Values that overflow the asked dtype are an Error. GGUF goes through scripts/gguf_to_hf.py and
/// scripts/hf_to_gguf.py (core/run/python.h).
void convert_checkpoint(const std::filesystem::path& src, const std::filesystem::path& dst,
                        const ConvertOptions& options);

}  // namespace resurface
