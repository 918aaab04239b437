// Files of named tensors, whatever their container: safetensors, or what torch.save wrote.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace resurface {

/// What a file says of one tensor; every field checked against the file.
struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  ///< bytes within the file; of the shared storage in a pickle

  uint64_t nbytes() const;  ///< of the values, contiguous
};

/// An opened file of tensors, cheap to copy. It is mapped read-only; what it says of its tensors is
/// read and checked on opening, their bytes are touched when they are asked for.
class TensorFile {
 public:
  /// Opens by content: safetensors, or a state dict or module that torch.save, torch.jit.save or
  /// torch::save wrote. Other formats (GGUF, HDF5, ...) are refused by name.
  static TensorFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const;
  const std::vector<TensorInfo>& tensors() const;  ///< in file order
  bool safetensors() const;
  const std::map<std::string, std::string>& metadata() const;  ///< of safetensors
  bool contains(const std::string& name) const;
  const TensorInfo& info(const std::string& name) const;  ///< throws, naming the nearest
  /// A view of the mapped bytes where they are aligned. Read-only: clone before writing. It keeps
  /// the mapping alive.
  at::Tensor tensor(const std::string& name) const;
  /// Gives back the memory of a contiguous part of such a view, which has been copied; what else is
  /// passed is left alone.
  void release(const at::Tensor& part) const;

  struct Contents;

 protected:
  explicit TensorFile(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}
  std::shared_ptr<const Contents> contents_;
};

/// One safetensors file. Every offset of its header is checked on opening: range, overlap, size
/// against dtype and shape.
class SafetensorsFile : public TensorFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  std::string_view bytes(const std::string& name) const;
};

/// What torch.save wrote (zip, or the format before torch 1.6), torch.jit.save or torch::save. The
/// pickle is read by pickle.h, which executes nothing. A module's tensors are named by their path
/// ("layers.0.weight"). A training checkpoint gives its "state_dict", "model_state_dict", "model"
/// or "module".
class PickleFile : public TensorFile {
 public:
  explicit PickleFile(const std::filesystem::path& path);
};

}  // namespace resurface
