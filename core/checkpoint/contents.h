// What an opened TensorFile holds; each format fills it.
#pragma once

#include <unordered_map>

#include "core/checkpoint/mapped_file.h"
#include "core/checkpoint/tensor_file.h"

namespace resurface {

struct TensorFile::Contents {
  explicit Contents(const std::filesystem::path& p) : path(p), file(p) {}

  std::filesystem::path path;
  MappedFile file;
  bool safetensors = false;
  std::vector<TensorInfo> tensors;
  /// Beside tensors: where the first element is, and the strides in elements (none: contiguous).
  struct Place {
    uint64_t begin = 0;
    std::vector<int64_t> strides;
  };
  std::vector<Place> places;
  std::map<std::string, std::string> metadata;
  std::unordered_map<std::string, size_t> index;
};

}  // namespace resurface
