// What a checkpoint is, for `resurface inspect`.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace resurface {

/// {"architecture", "parameters", "bytes", "content_hash", "config",
///  "dtypes": {"F32": {"tensors", "parameters", "bytes"}, ...},
///  "files": [{"name", "bytes", "tensors"}, ...],
///  "tensors": [{"name", "dtype", "shape", "bytes", "file"}, ...]}, tensors in file order, as they
/// are stored. Of a PEFT adapter, its base, the hash of the merged model, "adapter" and "base".
nlohmann::ordered_json inspect_checkpoint(const std::filesystem::path& folder);

}  // namespace resurface
