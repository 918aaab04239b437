// A value of a JSON file that knows where it stands, so that errors name file and key.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/run/error.h"

namespace resurface {

struct JsonNode {
  const nlohmann::json& json;
  std::string file;
  std::string path;  ///< "model.merges[3]"; empty for the root

  /// The key is there and not null.
  bool has(const std::string& key) const {
    return json.is_object() && json.contains(key) && !json[key].is_null();
  }
  JsonNode at(const std::string& key) const {
    if (!json.is_object()) wrong("an object");
    if (!json.contains(key)) fail("{}: missing key '{}'", where(), key);
    return {json[key], file, path.empty() ? key : path + "." + key};
  }
  JsonNode at(size_t index) const {
    return {json[index], file, fmt::format("{}[{}]", path, index)};
  }
  const std::string& string() const {
    if (!json.is_string()) wrong("a string");
    return json.get_ref<const std::string&>();
  }
  bool boolean() const {
    if (!json.is_boolean()) wrong("true or false");
    return json.get<bool>();
  }
  bool flag(const std::string& key, bool otherwise) const {
    return has(key) ? at(key).boolean() : otherwise;
  }
  const nlohmann::json& array() const {
    if (!json.is_array()) wrong("a list");
    return json;
  }
  const nlohmann::json& object() const {
    if (!json.is_object()) wrong("an object");
    return json;
  }
  /// A token id. The bound keeps a lying file from asking for gigabytes.
  uint32_t id() const {
    if (!json.is_number_integer() || json < 0 || json >= (1 << 24)) {
      wrong("an id (0 to 16777215)");
    }
    return json.get<uint32_t>();
  }

  std::string where() const { return path.empty() ? file : file + ": " + path; }
  [[noreturn]] void wrong(const std::string& expected) const {
    auto got = json.is_structured() ? std::string(json.type_name()) : json.dump();
    if (got.size() > 60) got = std::string(json.type_name());
    fail("{}: expected {}, got {}", where(), expected, got);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail("{}: {} is not implemented", where(), what);
  }
};

}  // namespace resurface
