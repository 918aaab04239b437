#include "core/checkpoint/tensor_file.h"

#include <array>
#include <cstring>
#include <functional>

#include "core/checkpoint/contents.h"
#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

struct Format {
  size_t at;
  std::string_view magic, what;
};

/// What a file is that we do not read, by its first bytes.
constexpr std::array kOthers = {
    Format{0, "GGUF", "a GGUF file; make a checkpoint of it: resurface convert FILE FOLDER"},
    Format{0, "\x89HDF", "an HDF5 file (Keras); save the model from transformers in PyTorch"},
    Format{0, "version https://git-lfs", "a Git LFS pointer, not the file itself: git lfs pull"},
    Format{0, "\x1f\x8b", "compressed with gzip; unpack it"},
    Format{257, "ustar",
           "a tar archive, as torch wrote it before 0.2 (or a packed download, to be unpacked); "
           "load and save it again with a newer torch"},
};

}  // namespace

uint64_t TensorInfo::nbytes() const {
  return static_cast<uint64_t>(c10::multiply_integers(shape)) * c10::elementSize(dtype);
}

TensorFile TensorFile::open(const fs::path& path) {
  char head[512] = {};
  size_t size = 0;
  {
    MappedFile file(path);
    size = std::min(file.bytes().size(), sizeof head);
    if (size > 0) std::memcpy(head, file.bytes().data(), size);  // an empty file is mapped nowhere
  }
  const std::string_view bytes(head, size);
  for (const Format& format : kOthers) {
    if (bytes.size() > format.at && bytes.substr(format.at).starts_with(format.magic)) {
      fail("{}: is {}", path.string(), format.what);
    }
  }
  // A safetensors file begins with the length of its header, whose first byte may be any.
  const bool header = bytes.size() > 8 && bytes[8] == '{';
  if (!header && (bytes.starts_with("PK\x03\x04") || bytes.starts_with('\x80'))) {
    return PickleFile(path);
  }
  return SafetensorsFile(path);
}

const fs::path& TensorFile::path() const { return contents_->path; }
const std::vector<TensorInfo>& TensorFile::tensors() const { return contents_->tensors; }
bool TensorFile::safetensors() const { return contents_->safetensors; }
const std::map<std::string, std::string>& TensorFile::metadata() const {
  return contents_->metadata;
}
bool TensorFile::contains(const std::string& name) const { return contents_->index.contains(name); }

const TensorInfo& TensorFile::info(const std::string& name) const {
  if (auto found = contents_->index.find(name); found != contents_->index.end()) {
    return contents_->tensors[found->second];
  }
  std::vector<std::string> names;
  for (const TensorInfo& t : tensors()) names.push_back(t.name);
  fail("{}: no tensor '{}'{}", path().string(), name, did_you_mean(name, names));
}

at::Tensor TensorFile::tensor(const std::string& name) const {
  const TensorInfo& t = info(name);
  if (t.nbytes() == 0) return at::empty(t.shape, t.dtype);
  const Contents::Place& place = contents_->places[contents_->index.at(name)];
  const auto strides =
      place.strides.empty() ? c10::contiguous_strides(t.shape) : c10::DimVector(place.strides);
  const char* data = contents_->file.bytes().data() + place.begin;
  int64_t reach = 1;  // elements from the first to the last
  for (size_t i = 0; i < t.shape.size(); ++i) reach += (t.shape[i] - 1) * strides[i];
  const uint64_t bytes = static_cast<uint64_t>(reach) * c10::elementSize(t.dtype);
  // No format promises alignment, and kernels assume it.
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(t.dtype) != 0) {
    at::Tensor copy = at::empty({reach}, t.dtype);
    std::memcpy(copy.data_ptr(), data, bytes);
    contents_->file.release(place.begin, bytes);
    return copy.as_strided(t.shape, strides);
  }
  const auto done = [contents = contents_, begin = place.begin, bytes](void*) {
    contents->file.release(begin, bytes);
  };
  return at::from_blob(const_cast<char*>(data), t.shape, strides, done, t.dtype);
}

void TensorFile::release(const at::Tensor& part) const {
  const auto bytes = contents_->file.bytes();
  const auto* data = static_cast<const char*>(part.const_data_ptr());
  const std::less_equal<> before;
  if (!part.is_contiguous() || !before(bytes.data(), data) ||
      !before(data + part.nbytes(), bytes.data() + bytes.size())) {
    return;
  }
  contents_->file.release(static_cast<uint64_t>(data - bytes.data()), part.nbytes());
}

}  // namespace resurface
