// Writing safetensors from tensors that are made one at a time.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"

namespace resurface {

/// A tensor to be written: what the header says of it, and where its values come from. `load` is
/// called once, when its turn comes, so that only one converted tensor is in memory.
struct TensorSource {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  std::function<at::Tensor()> load;

  uint64_t nbytes() const;
};

TensorSource source_of(std::string name, const at::Tensor& tensor);

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace resurface
