// Files that are whole or not there: everything is written under a temporary name in the same
// folder, synced and renamed.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace resurface {

/// The whole file. Throws Error naming the path and the reason.
std::string read_text(const std::filesystem::path& path);

/// Replaces `path` by a file of these bytes; on any failure (no space left, say) the old one stays.
/// Makes the folder when there is none.
void atomic_write(const std::filesystem::path& path, std::string_view text);

/// A JSON file. Errors name file, line and column.
nlohmann::json read_json(const std::filesystem::path& path);

/// What to do with a last line that has no newline and is no JSON: a killed writer leaves one.
enum class TornLine { refuse, drop };

/// Calls `use` for each line (1-based) of a file of JSON lines, keys in their order; blank lines
/// are skipped. "/dev/stdin" works. Throws Error "<path>:<line>: ..." for a line that is no JSON;
/// Errors from `use` get the same prefix.
void for_each_json_line(
    const std::filesystem::path& path,
    const std::function<void(const nlohmann::ordered_json& value, int64_t line)>& use,
    TornLine torn = TornLine::refuse);
std::vector<nlohmann::json> read_json_lines(const std::filesystem::path& path,
                                            TornLine torn = TornLine::refuse);

/// Appends JSON lines, each written at once. A torn last line of an earlier run is cut off first.
class JsonLines {
 public:
  explicit JsonLines(const std::filesystem::path& path);
  ~JsonLines();
  JsonLines(JsonLines&& other) noexcept;
  JsonLines& operator=(JsonLines&& other) noexcept;

  void append(const nlohmann::ordered_json& value);

 private:
  std::filesystem::path path_;
  int file_ = -1;
};

/// A folder that appears whole: written under a temporary name beside `target`, renamed into place
/// by commit(), removed when it goes out of scope without.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::filesystem::path target);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Syncs the files and renames the folder to its target; a target that is there is replaced.
  void commit();

 private:
  std::filesystem::path target_, path_;
};

}  // namespace resurface
