// Folders and files that the tests of checkpoints make.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"

namespace resurface {

/// An empty folder, gone at the end of the test.
class Folder {
 public:
  Folder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "resurface-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

inline void same(const at::Tensor& a, const at::Tensor& b) {
  CHECK(a.scalar_type() == b.scalar_type());
  CHECK(a.sizes() == b.sizes());
  CHECK(at::equal(a.to(at::kDouble), b.to(at::kDouble)));
}

/// What opening says; "opened" when it says nothing.
template <class Open>
std::string message_of(Open&& open) {
  try {
    open();
  } catch (const Error& error) {
    return error.what();
  }
  return "opened";
}

}  // namespace resurface
