#include "core/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/run/error.h"

namespace resurface {

MappedFile::MappedFile(const std::filesystem::path& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("{}: failed opening: {}", path.string(), std::strerror(errno));
  struct stat info {};
  const char* problem = nullptr;
  if (::fstat(fd, &info) < 0) {
    problem = std::strerror(errno);
  } else if (!S_ISREG(info.st_mode)) {
    problem = "not a regular file";
  } else if (info.st_size > 0) {  // an empty file cannot be mapped; its size says enough
    size_ = static_cast<size_t>(info.st_size);
    void* at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
      problem = std::strerror(errno);
    } else {
      data_ = static_cast<const char*>(at);
    }
  }
  ::close(fd);
  if (problem) fail("{}: failed mapping: {}", path.string(), problem);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), size_);
}

void MappedFile::release(uint64_t begin, uint64_t size) const {
  // Whole pages inside the range; for a few of them the call is not worth it.
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t first = (begin + page - 1) / page * page, last = (begin + size) / page * page;
  if (size < (1 << 20) || last <= first || last > size_) return;
  ::madvise(const_cast<char*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace resurface
