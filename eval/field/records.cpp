#include "eval/field/records.h"

#include "core/run/files.h"

namespace resurface {

Records::Records(const std::filesystem::path& path, int64_t limit) : file_(path.string()) {
  const auto most = limit > 0 ? static_cast<size_t>(limit) : std::numeric_limits<size_t>::max();
  const std::string text = read_text(path);
  const size_t first = text.find_first_not_of(" \t\r\n");
  lines_ = first != std::string::npos && text[first] != '[';
  if (lines_) {
    for_each_json_line(path, [&](const auto& value, int64_t number) {
      if (rows_.size() == most) return;
      rows_.push_back(value);
      line_.push_back(number);
    });
  } else if (first != std::string::npos) {
    auto list = read_json(path);
    for (auto& value : list) {
      if (rows_.size() == most) break;
      rows_.push_back(std::move(value));
    }
  }
  if (rows_.empty()) fail("{}: no records; expected a JSON list or one JSON value a line", file_);
}

JsonNode Records::operator[](size_t index) const {
  if (lines_) return {rows_.at(index), fmt::format("{}:{}", file_, line_.at(index)), ""};
  return {rows_.at(index), file_, fmt::format("[{}]", index)};
}

std::string text_field(const JsonNode& record, const std::string& key) {
  const JsonNode node = record.at(key);
  if (node.string().empty()) node.wrong("some text");
  return node.string();
}

std::vector<std::string> texts_of(const JsonNode& node) {
  if (node.json.is_string()) return {node.string()};
  if (node.array().empty()) node.wrong("at least one text");
  std::vector<std::string> texts;
  for (size_t i = 0; i < node.json.size(); ++i) texts.push_back(node.at(i).string());
  return texts;
}

std::vector<std::string> read_texts(const std::filesystem::path& path, int64_t limit) {
  const Records records(path, limit);
  std::vector<std::string> texts;
  for (size_t i = 0; i < records.size(); ++i) {
    const JsonNode record = records[i];
    texts.push_back(record.json.is_string() ? record.string()
                    : record.has("input")   ? text_field(record, "input")
                                            : text_field(record, "text"));
  }
  return texts;
}

}  // namespace resurface
