// Config files: YAML read into settings structs (core/run/settings.h), with errors that name file,
// line and column, and back again.
//
//   auto config = Config::load("configs/x.yaml", {"remove.npo.beta=0.2"});
//   auto npo = read<NpoSettings>(config["remove"]["npo"]);
//   std::string resolved = to_yaml(npo);
#pragma once

#include <concepts>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/run/error.h"
#include "core/run/settings.h"

namespace resurface {

/// One value of a config file: a scalar, a list, a map or nothing. Cheap to copy; keeps its file
/// alive.
class Config {
 public:
  /// Reads a file, then applies `overrides`, each "a.b.c=value" with the value read as YAML (list
  /// elements by number, a.0.b). Throws ConfigError for a file that cannot be read, YAML that does
  /// not parse, a key given twice, or an override that does not fit.
  static Config load(const std::filesystem::path& path,
                     const std::vector<std::string>& overrides = {});
  static Config parse(const std::string& text, const std::string& name = "<string>",
                      const std::vector<std::string>& overrides = {});

  bool is_null() const;
  bool is_scalar() const;
  bool is_list() const;
  bool is_map() const;

  bool has(const std::string& key) const;
  std::optional<Config> find(const std::string& key) const;     ///< nothing when absent
  Config operator[](const std::string& key) const;              ///< throws, naming key and place
  std::vector<std::string> keys() const;                        ///< of a map, in file order
  std::vector<std::pair<std::string, Config>> entries() const;  ///< of a map, in file order
  std::vector<Config> items() const;                            ///< of a list
  size_t size() const;

  std::string string() const;
  double number() const;  ///< finite
  int64_t integer() const;
  bool boolean() const;
  /// With plain scalars as the type that they look like.
  nlohmann::ordered_json json() const;

  /// Refuses keys of a map that are not in `valid`.
  void allow_only(const std::vector<std::string>& valid) const;

  const std::string& path() const { return path_; }  ///< "remove.npo"; "" for the whole file
  std::string where() const;                         ///< "configs/x.yaml:14:5"
  /// Throws ConfigError "<where>: <message>".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  struct Node;
  struct Builder;
  Config(std::shared_ptr<const Node> node, std::string path);
  Config child(size_t index, const std::string& key) const;
  [[noreturn]] void wrong_type(const char* expected) const;
  static Node parse_node(const std::string& text, const std::shared_ptr<const std::string>& origin,
                         bool positions);
  static void override_node(Node& root, const std::string& assignment);

  std::shared_ptr<const Node> node_;
  std::string path_;
};

namespace detail {

void check(const Config& config, double value, const std::string& name, const Range& range);
void check(const Config& config, const std::string& value, const std::string& name,
           const OneOf& values);

inline void convert(const Config& config, bool& value) { value = config.boolean(); }
inline void convert(const Config& config, int64_t& value) { value = config.integer(); }
inline void convert(const Config& config, double& value) { value = config.number(); }
inline void convert(const Config& config, std::string& value) { value = config.string(); }
inline void convert(const Config& config, std::filesystem::path& value) { value = config.string(); }

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;
template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

/// Fills the fields that the map names and remembers all names, for the check of unknown keys.
struct Reader {
  const Config& config;
  std::vector<std::string> names = {};

  template <class T, class... Bounds>
  void operator()(const char* name, T& field, const char* /*help*/, const Bounds&... bounds) {
    names.emplace_back(name);
    if (auto value = config.find(name)) fill(*value, field, name, bounds...);
  }

  template <class T, class... Bounds>
  static void fill(const Config& value, T& field, const char* name, const Bounds&... bounds) {
    if constexpr (is_vector<T>) {
      field.clear();
      for (const auto& item : value.items()) {
        typename T::value_type element{};
        fill(item, element, name, bounds...);
        field.push_back(std::move(element));
      }
    } else if constexpr (is_optional<T>) {
      if (value.is_null()) {
        field.reset();
      } else {
        fill(value, field.emplace(), name, bounds...);
      }
    } else if constexpr (HasVisit<T, Reader&>) {
      Reader reader{value};
      field.visit(reader);
      value.allow_only(reader.names);
    } else {
      convert(value, field);
      if constexpr (std::is_arithmetic_v<T>) {
        (check(value, static_cast<double>(field), name, bounds), ...);
      } else {
        (check(value, std::string(field), name, bounds), ...);
      }
    }
  }
};

}  // namespace detail

/// Fills several settings from one map; a key must belong to one of them. Absent fields keep their
/// value.
template <class... T>
void read_into(const Config& config, T&... settings) {
  detail::Reader reader{config};
  (settings.visit(reader), ...);
  config.allow_only(reader.names);
}

/// Settings from a map, absent fields at their defaults (or as in `settings`).
template <class T>
T read(const Config& config, T settings = {}) {
  read_into(config, settings);
  return settings;
}

namespace detail {

template <class T>
nlohmann::ordered_json value_to_json(const T& value);

struct Writer {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();

  template <class T, class... Bounds>
  void operator()(const char* name, T& field, const char* /*help*/, const Bounds&...) {
    json[name] = value_to_json(field);
  }
};

template <class T>
nlohmann::ordered_json value_to_json(const T& value) {
  if constexpr (is_vector<T>) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& element : value) list.push_back(value_to_json(element));
    return list;
  } else if constexpr (is_optional<T>) {
    return value ? value_to_json(*value) : nlohmann::ordered_json();
  } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return value.string();
  } else if constexpr (HasVisit<T, Writer&>) {
    Writer writer;
    T copy = value;  // visit is one function for reading and writing, hence not const
    copy.visit(writer);
    return writer.json;
  } else {
    return value;
  }
}

}  // namespace detail

/// Every field, defaults included, in the order of `visit`.
template <class T>
nlohmann::ordered_json to_json(const T& settings) requires HasVisit<T, detail::Writer&> {
  return detail::value_to_json(settings);
}

/// JSON as block YAML that Config reads back to the same values.
std::string yaml_text(const nlohmann::ordered_json& json);

template <class T>
std::string to_yaml(const T& settings) requires HasVisit<T, detail::Writer&> {
  return yaml_text(to_json(settings));
}

/// One field as a reader of the reference page sees it.
struct FieldInfo {
  std::string name;   ///< "lora.rank"
  std::string type;   ///< "number", "whole number", "true or false", "text", "path", "list of ..."
  std::string value;  ///< the default, as YAML
  std::string help;
  std::string bounds;  ///< ">= 1", "full | lora", or ""
};

namespace detail {

std::string describe_bound(const Range& range);
std::string describe_bound(const OneOf& values);

struct Describer {
  std::string prefix = "";
  std::vector<FieldInfo> fields = {};

  template <class T, class... Bounds>
  void operator()(const char* name, T& field, const char* help, const Bounds&... bounds) {
    if constexpr (HasVisit<T, Describer&>) {
      Describer inner{prefix + name + "."};
      field.visit(inner);
      fields.insert(fields.end(), inner.fields.begin(), inner.fields.end());
    } else {
      fields.push_back({prefix + name, type_name<T>(), value_to_json(field).dump(), help,
                        (std::string() + ... + describe_bound(bounds))});
    }
  }

  template <class T>
  static std::string type_name() {
    if constexpr (is_vector<T>) {
      return "list of " + type_name<typename T::value_type>();
    } else if constexpr (is_optional<T>) {
      return type_name<typename T::value_type>() + " or null";
    } else if constexpr (std::is_same_v<T, bool>) {
      return "true or false";
    } else if constexpr (std::is_integral_v<T>) {
      return "whole number";
    } else if constexpr (std::is_floating_point_v<T>) {
      return "number";
    } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
      return "path";
    } else if constexpr (HasVisit<T, Describer&>) {
      return "map";
    } else {
      return "text";
    }
  }
};

}  // namespace detail

/// All fields with their defaults, nested ones by dotted name.
template <class T>
std::vector<FieldInfo> describe(T settings = {}) {
  detail::Describer describer;
  settings.visit(describer);
  return describer.fields;
}

}  // namespace resurface
