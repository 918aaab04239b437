// Files of passages that live as long as a test.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/run/files.h"
#include "retrieval/index.h"

namespace resurface::test {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "resurface-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    atomic_write(path_ / name, text);
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::string line(const std::string& id, const std::string& title, const std::string& text,
                        const std::string& language = "en") {
  return nlohmann::json{
             {"id", id}, {"title", title}, {"text", text}, {"language", language}, {"source", "S"}}
             .dump() +
         "\n";
}

/// The project's own passages, in both languages.
inline std::vector<std::filesystem::path> own_passages() {
  const auto folder = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites/passages";
  return {folder / "en.jsonl", folder / "zh-Hans.jsonl"};
}

}  // namespace resurface::test
