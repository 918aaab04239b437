// Passages: short texts from open sources that a question can be answered from.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace resurface {

/// One line of a file of passages: {"id", "title", "text", "language", "source"} and optionally
/// "url".
struct Passage {
  std::string id;  ///< the same in every language
  std::string title, text;
  std::string language;  ///< as in suites: en | zh-Hans | zh-Hant, or any other
  std::string source;    ///< where a reader can look it up
  std::string url = {};
};

/// Reads and checks files of passages. Errors name file, line and field: one that is missing or
/// empty, a passage that is there twice, no passage at all.
std::vector<Passage> load_passages(const std::vector<std::filesystem::path>& files);

/// Of every field of every passage, in their order.
std::string hash_passages(const std::vector<Passage>& passages);

}  // namespace resurface
