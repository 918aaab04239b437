// The published files: a JSON list, or one JSON value a line.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/text/json_node.h"

namespace resurface {

class Records {
 public:
  /// Reads the first `limit` records (0: all). Throws Error naming file and line for what is no
  /// JSON, and for a file without a record.
  explicit Records(const std::filesystem::path& path, int64_t limit = 0);

  size_t size() const { return rows_.size(); }
  /// Errors of the node name "file: [3]" (list) or "file:4" (lines), and the field.
  JsonNode operator[](size_t index) const;

 private:
  std::string file_;
  bool lines_ = false;
  std::vector<nlohmann::json> rows_;
  std::vector<int64_t> line_;  ///< of each row, when the file has lines
};

/// A field that must be there and hold some text.
std::string text_field(const JsonNode& record, const std::string& key);

/// A list of texts; one text alone is a list of one. Not empty.
std::vector<std::string> texts_of(const JsonNode& node);

/// Each record as a text: a string, or the field "text" (MUSE's data sets) or "input" (WikiMIA).
std::vector<std::string> read_texts(const std::filesystem::path& path, int64_t limit = 0);

}  // namespace resurface
