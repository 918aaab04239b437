// A whole file, mapped read-only: a page is read when it is first touched.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace resurface {

class MappedFile {
 public:
  /// Throws Error naming the path when it is no regular file that can be read.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  /// Gives the memory of these bytes back until they are touched again: what was copied out of the
  /// file is not held twice.
  void release(uint64_t begin, uint64_t size) const;

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace resurface
