#include "core/checkpoint/write.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <set>

#include "core/checkpoint/dtype.h"
#include "core/run/error.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A file that appears under its name when it is whole, or not at all.
class NewFile {
 public:
  explicit NewFile(const fs::path& path)
      : path_(path),
        temporary_(path.parent_path() / fmt::format(".{}.{}.{:08x}.tmp", path.filename().string(),
                                                    ::getpid(), std::random_device{}())) {
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) fail("{}: failed opening for writing: {}", path_.string(), std::strerror(errno));
  }
  ~NewFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!done_) ::unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_errno("writing");
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }

  void commit() {
    if (::fsync(fd_) < 0) fail_errno("writing");
    if (::close(std::exchange(fd_, -1)) < 0) fail_errno("writing");
    if (::rename(temporary_.c_str(), path_.c_str()) < 0) fail_errno("renaming into place");
    done_ = true;
  }

 private:
  [[noreturn]] void fail_errno(const char* doing) const {
    int code = errno;
    if (code == ENOSPC || code == EDQUOT) {
      fail("{}: no space left on this disk while {}; nothing was changed", path_.string(), doing);
    }
    fail("{}: failed {}: {}; nothing was changed", path_.string(), doing, std::strerror(code));
  }

  fs::path path_, temporary_;
  int fd_ = -1;
  bool done_ = false;
};

/// The length, the JSON header and the spaces that bring the data to a multiple of 8 bytes.
std::string header_of(const fs::path& path, const std::vector<TensorSource>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> entries;
  if (!metadata.empty()) entries.push_back("\"__metadata__\":" + json(metadata).dump());
  std::set<std::string> names;
  uint64_t at = 0;
  for (const TensorSource& t : tensors) {
    if (t.name == "__metadata__" || !names.insert(t.name).second) {
      fail("{}: tensor '{}' would be written twice or hides the metadata", path.string(), t.name);
    }
    uint64_t end = at + t.nbytes();
    entries.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  json(t.name).dump(), dtype_name(t.dtype), fmt::join(t.shape, ","),
                                  at, end));
    at = end;
  }
  std::string text = fmt::format("{{{}}}", fmt::join(entries, ","));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

}  // namespace

uint64_t TensorSource::nbytes() const {
  return static_cast<uint64_t>(c10::multiply_integers(shape)) * c10::elementSize(dtype);
}

TensorSource source_of(std::string name, const at::Tensor& tensor) {
  if (!tensor.defined()) fail("tensor '{}' is undefined", name);
  if (tensor.layout() != at::kStrided) {
    fail("tensor '{}': safetensors cannot hold the layout {}", name, c10::str(tensor.layout()));
  }
  return {std::move(name), tensor.scalar_type(), tensor.sizes().vec(), [tensor] { return tensor; }};
}

void write_safetensors(const fs::path& path, const std::vector<TensorSource>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::string header;
  try {
    header = header_of(path, tensors, metadata);
  } catch (const json::exception& error) {
    fail("{}: a tensor name or metadata is not valid UTF-8: {}", path.string(), error.what());
  }
  fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot make this folder: {}", folder.string(), error.message());
  uint64_t needed = header.size();
  for (const TensorSource& t : tensors) needed += t.nbytes();
  if (auto space = fs::space(folder, error); !error && space.available < needed) {
    fail("{}: needs {} MiB, this disk has {} MiB free", path.string(), (needed >> 20) + 1,
         space.available >> 20);
  }

  NewFile file(path);
  file.write(header);
  for (const TensorSource& t : tensors) {
    at::Tensor values = t.load().detach().to(at::kCPU).contiguous();
    if (values.scalar_type() != t.dtype || values.sizes() != at::IntArrayRef(t.shape)) {
      fail("{}: tensor '{}' is not what its header says", path.string(), t.name);
    }
    if (values.numel() == 0) continue;
    file.write({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  file.commit();
}

void write_safetensors(const fs::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : tensors) sources.push_back(source_of(name, tensor));
  write_safetensors(path, sources, metadata);
}

}  // namespace resurface
