#include "core/run/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>

#include "core/run/error.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_errno(const fs::path& path, const char* doing) {
  int code = errno;
  if (code == ENOSPC || code == EDQUOT) {
    fail("{}: no space left on this disk while {}; what was there before is kept", path.string(),
         doing);
  }
  fail("{}: failed {}: {}", path.string(), doing, std::strerror(code));
}

/// An open file that closes itself.
struct File {
  int fd;
  explicit File(int descriptor) : fd(descriptor) {}
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
};

void write_all(int fd, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_errno(path, "writing");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail("{}: cannot make this folder: {}", path.string(), error.message());
}

/// Unused with overwhelming probability, also by another process on another machine.
fs::path temporary_name(const fs::path& target) {
  std::random_device random;
  auto name = fmt::format(".{}.{}.{:08x}.tmp", target.filename().string(), ::getpid(), random());
  return folder_of(target) / name;
}

/// The entry itself must reach the disk too. Not every file system can sync a folder.
void sync_folder(const fs::path& folder) {
  File file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.fd >= 0) ::fsync(file.fd);
}

}  // namespace

std::string read_text(const fs::path& path) {
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) fail_errno(path, "opening");
  std::string text;
  struct stat info {};
  if (::fstat(file.fd, &info) == 0 && info.st_size > 0) {
    text.reserve(static_cast<size_t>(info.st_size));
  }
  std::vector<char> buffer(1 << 16);
  for (;;) {
    ssize_t got = ::read(file.fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(path, "reading");
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

void atomic_write(const fs::path& path, std::string_view text) {
  make_folder(folder_of(path));
  fs::path temporary = temporary_name(path);
  try {
    File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.fd < 0) fail_errno(path, "opening for writing");
    write_all(file.fd, text, path);
    if (::fsync(file.fd) < 0) fail_errno(path, "writing");
    if (::rename(temporary.c_str(), path.c_str()) < 0) fail_errno(path, "renaming into place");
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(folder_of(path));
}

nlohmann::json read_json(const fs::path& path) {
  try {
    return nlohmann::json::parse(read_text(path));
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", path.string(), error.what());
  }
}

void for_each_json_line(
    const fs::path& path,
    const std::function<void(const nlohmann::ordered_json& value, int64_t line)>& use,
    TornLine torn) {
  std::string text = read_text(path);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    bool last = end == std::string::npos;
    if (last) end = text.size();
    std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    nlohmann::ordered_json value;
    try {
      value = nlohmann::ordered_json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      if (last && torn == TornLine::drop) return;
      fail("{}:{}: not valid JSON: {}", path.string(), number, error.what());
    }
    try {
      use(value, number);
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      fail("{}:{}: {}", path.string(), number, error.what());
    } catch (const nlohmann::json::exception& error) {
      fail("{}:{}: {}", path.string(), number, error.what());
    }
  }
}

std::vector<nlohmann::json> read_json_lines(const fs::path& path, TornLine torn) {
  std::vector<nlohmann::json> values;
  for_each_json_line(
      path, [&](const auto& value, int64_t) { values.push_back(value); }, torn);
  return values;
}

JsonLines::JsonLines(const fs::path& path) : path_(path) {
  make_folder(folder_of(path));
  std::error_code error;
  if (fs::is_regular_file(path, error)) {
    std::string text = read_text(path);
    size_t whole = text.rfind('\n') + 1;  // npos + 1 is 0: no line is whole
    if (whole != text.size() && ::truncate(path.c_str(), static_cast<off_t>(whole)) < 0) {
      fail_errno(path, "cutting off a torn last line");
    }
  }
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) fail_errno(path, "opening for writing");
}

JsonLines::~JsonLines() {
  if (file_ >= 0) ::close(file_);
}

JsonLines::JsonLines(JsonLines&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)) {}

JsonLines& JsonLines::operator=(JsonLines&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  return *this;
}

void JsonLines::append(const nlohmann::ordered_json& value) {
  write_all(file_, value.dump() + "\n", path_);
}

TemporaryFolder::TemporaryFolder(fs::path target) : target_(std::move(target)) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "runs/x/" means "runs/x"
  make_folder(folder_of(target_));
  path_ = temporary_name(target_);
  make_folder(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void TemporaryFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    if (!entry.is_regular_file()) continue;
    File file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (file.fd < 0 || ::fsync(file.fd) < 0) fail_errno(entry.path(), "writing");
  }
  // A folder that is not empty cannot be renamed over, so the old one steps aside.
  fs::path old;
  if (fs::exists(target_)) {
    old = temporary_name(target_);
    if (::rename(target_.c_str(), old.c_str()) < 0) fail_errno(target_, "moving the old one aside");
  }
  if (::rename(path_.c_str(), target_.c_str()) < 0) {
    int code = errno;
    if (!old.empty()) ::rename(old.c_str(), target_.c_str());
    errno = code;
    fail_errno(target_, "renaming into place");
  }
  path_.clear();
  sync_folder(folder_of(target_));
  std::error_code ignored;
  if (!old.empty()) fs::remove_all(old, ignored);
}

}  // namespace resurface
