#include "core/run/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <sstream>

#include "core/run/files.h"
#include "core/run/nearest.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

/// Aliases are copied; this bounds what a few nested ones can grow into.
constexpr size_t kMostNodes = 1'000'000;

template <class T>
std::optional<T> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string place(const std::string& origin, int line, int column) {
  return line > 0 ? fmt::format("{}:{}:{}", origin, line, column) : origin;
}

}  // namespace

struct Config::Node {
  enum class Kind { null, scalar, list, map };
  struct Key {
    std::string name;
    int line = 0, column = 0;
  };

  Kind kind = Kind::null;
  std::string text;                           ///< of a scalar
  bool quoted = false;                        ///< a quoted scalar is text, whatever it looks like
  std::shared_ptr<const std::string> origin;  ///< file name, or the override in words
  int line = 0, column = 0;                   ///< 1-based; 0 for an override
  std::vector<Key> keys;                      ///< of a map, beside `items`
  std::vector<Node> items;                    ///< of a list or a map

  std::string where() const { return place(*origin, line, column); }

  Node* find(const std::string& name) {
    auto key = std::find_if(keys.begin(), keys.end(), [&](auto& k) { return k.name == name; });
    return key == keys.end() ? nullptr : &items[static_cast<size_t>(key - keys.begin())];
  }

  size_t count() const {
    size_t total = 1;
    for (const auto& item : items) total += item.count();
    return total;
  }
};

// yaml-cpp's own tree drops the marks of keys and takes duplicate keys silently, so the tree is
// built from the parser's events.
struct Config::Builder final : YAML::EventHandler {
  std::shared_ptr<const std::string> origin;
  bool positions;
  Node root;
  bool finished = false;

  Builder(std::shared_ptr<const std::string> name, bool with_positions)
      : origin(std::move(name)), positions(with_positions) {
    root.origin = origin;
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (finished) refuse(mark, "a second document; a config is one");
  }
  void OnDocumentEnd() override { finished = true; }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(mark, Node::Kind::null), anchor, mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto node = anchors_.find(anchor);
    if (node == anchors_.end()) refuse(mark, "an alias inside what it stands for");
    nodes_ += node->second.count();
    add(node->second, YAML::NullAnchor, mark);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = make(mark, Node::Kind::scalar);
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    add(std::move(node), anchor, mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open_.push_back({make(mark, Node::Kind::list), anchor, mark, std::nullopt});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open_.push_back({make(mark, Node::Kind::map), anchor, mark, std::nullopt});
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    YAML::Mark mark;
    std::optional<Node::Key> key;  ///< read, its value still to come
  };
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchors_;
  size_t nodes_ = 0;

  Node make(const YAML::Mark& mark, Node::Kind kind) const {
    Node node;
    node.kind = kind;
    node.origin = origin;
    if (positions && !mark.is_null()) node.line = mark.line + 1, node.column = mark.column + 1;
    return node;
  }

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& message) const {
    throw ConfigError(make(mark, Node::Kind::null).where() + ": " + message);
  }

  void close() {
    Open open = std::move(open_.back());
    open_.pop_back();
    add(std::move(open.node), open.anchor, open.mark);
  }

  void add(Node node, YAML::anchor_t anchor, const YAML::Mark& mark) {
    if (++nodes_ > kMostNodes) refuse(mark, "too large once its aliases are written out");
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    if (open_.empty()) {
      root = std::move(node);
      return;
    }
    auto& [parent, parent_anchor, parent_mark, key] = open_.back();
    if (parent.kind == Node::Kind::map && !key) {
      if (node.kind != Node::Kind::scalar) refuse(mark, "a key must be plain text");
      for (const auto& before : parent.keys) {
        if (before.name == node.text) {
          refuse(mark, fmt::format("key '{}' is given twice (first at {})", node.text,
                                   place(*origin, before.line, before.column)));
        }
      }
      key = Node::Key{node.text, node.line, node.column};
      return;
    }
    if (key) {
      // "key:" with nothing behind it: the parser's mark is wherever the next token is.
      if (node.kind == Node::Kind::null) node.line = key->line, node.column = key->column;
      parent.keys.push_back(*std::exchange(key, std::nullopt));
    }
    parent.items.push_back(std::move(node));
  }
};

Config::Config(std::shared_ptr<const Node> node, std::string path)
    : node_(std::move(node)), path_(std::move(path)) {}

Config Config::load(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  std::string text;
  try {
    text = read_text(path);
  } catch (const Error& error) {
    throw ConfigError(error.what());
  }
  return parse(text, path.string(), overrides);
}

Config::Node Config::parse_node(const std::string& text,
                                const std::shared_ptr<const std::string>& origin, bool positions) {
  if (const size_t bad = invalid_utf8(text); bad != std::string::npos) {
    const std::string_view before(text.data(), bad);
    const auto line = static_cast<int>(std::ranges::count(before, '\n')) + 1;
    const auto column = static_cast<int>(bad - (before.rfind('\n') + 1)) + 1;
    throw ConfigError(place(*origin, positions ? line : 0, column) + ": not UTF-8");
  }
  std::istringstream stream(text);
  Builder builder(origin, positions);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    bool marked = positions && !error.mark.is_null();
    throw ConfigError(place(*origin, marked ? error.mark.line + 1 : 0, error.mark.column + 1) +
                      ": not valid YAML: " + error.msg);
  }
  return std::move(builder.root);
}

Config Config::parse(const std::string& text, const std::string& name,
                     const std::vector<std::string>& overrides) {
  auto root = std::make_shared<Node>(
      parse_node(text, std::make_shared<const std::string>(name), /*positions=*/true));
  for (const auto& assignment : overrides) override_node(*root, assignment);
  return Config(std::move(root), "");
}

void Config::override_node(Node& root, const std::string& assignment) {
  auto origin = std::make_shared<const std::string>(fmt::format("command line, '{}'", assignment));
  auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw ConfigError(fmt::format("{}: expected key=value, as in remove.npo.beta=0.2", *origin));
  }
  Node* node = &root;
  std::string path = assignment.substr(0, equals);
  std::string walked;
  for (size_t begin = 0, end = 0; begin <= path.size(); begin = end + 1) {
    end = std::min(path.find('.', begin), path.size());
    std::string key = path.substr(begin, end - begin);
    if (key.empty()) throw ConfigError(fmt::format("{}: an empty key in '{}'", *origin, path));
    if (node->kind == Node::Kind::list) {
      auto index = parse_number<size_t>(key);
      if (!index || *index >= node->items.size()) {
        throw ConfigError(
            fmt::format("{}: '{}' is a list of {}; expected an index below that, got '{}'", *origin,
                        walked, node->items.size(), key));
      }
      node = &node->items[*index];
    } else if (node->kind == Node::Kind::scalar) {
      throw ConfigError(fmt::format("{}: '{}' is '{}' ({}), so it has no '{}' inside", *origin,
                                    walked, node->text, node->where(), key));
    } else {
      node->kind = Node::Kind::map;
      Node* next = node->find(key);
      if (!next) {
        node->keys.push_back({key, 0, 0});
        node->items.emplace_back().origin = origin;
        next = &node->items.back();
      }
      node = next;
    }
    walked += (walked.empty() ? "" : ".") + key;
  }
  *node = parse_node(assignment.substr(equals + 1), origin, /*positions=*/false);
}

bool Config::is_null() const { return node_->kind == Node::Kind::null; }
bool Config::is_scalar() const { return node_->kind == Node::Kind::scalar; }
bool Config::is_list() const { return node_->kind == Node::Kind::list; }
bool Config::is_map() const { return node_->kind == Node::Kind::map; }
size_t Config::size() const { return node_->items.size(); }

Config Config::child(size_t index, const std::string& key) const {
  std::string inner = is_list()       ? fmt::format("{}[{}]", path_, key)
                      : path_.empty() ? key
                                      : path_ + "." + key;
  return Config(std::shared_ptr<const Node>(node_, &node_->items[index]), std::move(inner));
}

std::vector<std::string> Config::keys() const {
  if (!is_map() && !is_null()) wrong_type("a map");
  std::vector<std::string> names;
  for (const auto& key : node_->keys) names.push_back(key.name);
  return names;
}

bool Config::has(const std::string& key) const { return find(key).has_value(); }

std::optional<Config> Config::find(const std::string& key) const {
  auto names = keys();
  auto found = std::find(names.begin(), names.end(), key);
  if (found == names.end()) return std::nullopt;
  return child(static_cast<size_t>(found - names.begin()), key);
}

Config Config::operator[](const std::string& key) const {
  auto value = find(key);
  if (!value) {
    std::string inside = path_.empty() ? "" : fmt::format(" in '{}'", path_);
    fail(fmt::format("missing key '{}'{}", key, inside));
  }
  return *value;
}

std::vector<std::pair<std::string, Config>> Config::entries() const {
  std::vector<std::pair<std::string, Config>> result;
  auto names = keys();
  for (size_t i = 0; i < names.size(); ++i) result.emplace_back(names[i], child(i, names[i]));
  return result;
}

std::vector<Config> Config::items() const {
  if (!is_list()) wrong_type("a list");
  std::vector<Config> result;
  for (size_t i = 0; i < size(); ++i) result.push_back(child(i, std::to_string(i)));
  return result;
}

std::string Config::string() const {
  if (!is_scalar()) wrong_type("text");
  return node_->text;
}

double Config::number() const {
  auto value = is_scalar() && !node_->quoted ? parse_number<double>(node_->text) : std::nullopt;
  if (!value || !std::isfinite(*value)) wrong_type("a number");
  return *value;
}

int64_t Config::integer() const {
  auto value = is_scalar() && !node_->quoted ? parse_number<int64_t>(node_->text) : std::nullopt;
  if (!value) wrong_type("a whole number");
  return *value;
}

bool Config::boolean() const {
  if (is_scalar() && !node_->quoted && node_->text == "true") return true;
  if (is_scalar() && !node_->quoted && node_->text == "false") return false;
  wrong_type("true or false");
}

nlohmann::ordered_json Config::json() const {
  if (is_null()) return nullptr;
  if (is_map()) {
    auto map = nlohmann::ordered_json::object();
    for (const auto& [key, value] : entries()) map[key] = value.json();
    return map;
  }
  if (is_list()) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& item : items()) list.push_back(item.json());
    return list;
  }
  const std::string& text = node_->text;
  if (!node_->quoted) {
    if (text == "true" || text == "false") return text == "true";
    if (auto whole = parse_number<int64_t>(text)) return *whole;
    if (auto value = parse_number<double>(text); value && std::isfinite(*value)) return *value;
  }
  return text;
}

void Config::allow_only(const std::vector<std::string>& valid) const {
  if (!is_map() && !is_null()) wrong_type("a map");
  for (const auto& key : node_->keys) {
    if (std::find(valid.begin(), valid.end(), key.name) != valid.end()) continue;
    std::string at = key.line
                         ? place(*node_->origin, key.line, key.column)
                         : child(static_cast<size_t>(&key - node_->keys.data()), key.name).where();
    std::string inside = path_.empty() ? "" : fmt::format(" in '{}'", path_);
    auto meant = did_you_mean(key.name, valid);
    throw ConfigError(fmt::format("{}: unknown key '{}'{}{} valid keys: {}", at, key.name, inside,
                                  meant.empty() ? ";" : meant, fmt::join(valid, ", ")));
  }
}

std::string Config::where() const { return node_->where(); }

void Config::fail(const std::string& message) const {
  throw ConfigError(fmt::format("{}: {}", where(), message));
}

void Config::wrong_type(const char* expected) const {
  std::string got = is_null()       ? "nothing"
                    : is_list()     ? "a list"
                    : is_map()      ? "a map"
                    : node_->quoted ? fmt::format("\"{}\"", node_->text)
                                    : fmt::format("'{}'", node_->text);
  fail(fmt::format("{}expected {}, got {}", path_.empty() ? "" : fmt::format("{}: ", path_),
                   expected, got));
}

namespace detail {

std::string describe_bound(const Range& range) {
  if (std::isfinite(range.low) && std::isfinite(range.high)) {
    return fmt::format("{}{} to {}", range.open_low ? "above " : "", range.low, range.high);
  }
  if (std::isfinite(range.low)) {
    return fmt::format("{} {}", range.open_low ? ">" : ">=", range.low);
  }
  return std::isfinite(range.high) ? fmt::format("<= {}", range.high) : "";
}

std::string describe_bound(const OneOf& values) {
  return fmt::format("{}", fmt::join(values.values, " | "));
}

void check(const Config& config, double value, const std::string& name, const Range& range) {
  bool low = range.open_low ? value > range.low : value >= range.low;
  if (!low || !(value <= range.high)) {
    config.fail(
        fmt::format("'{}' must be {}, got {}", name, describe_bound(range), config.string()));
  }
}

void check(const Config& config, const std::string& value, const std::string& name,
           const OneOf& values) {
  if (std::find(values.values.begin(), values.values.end(), value) != values.values.end()) return;
  auto meant = did_you_mean(value, values.values);
  config.fail(fmt::format("'{}' cannot be '{}'{} valid values: {}", name, value,
                          meant.empty() ? ";" : meant, fmt::join(values.values, ", ")));
}

}  // namespace detail

namespace {

/// Text that YAML reads back as this very text without quotes.
bool is_plain(const std::string& text) {
  // yes, no and their like are booleans to YAML 1.1 readers.
  static const std::set<std::string> taken = {"true", "false", "null", "yes", "no",
                                              "on",   "off",   "y",    "n"};
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (text.empty() || taken.contains(lower) || parse_number<double>(text)) return false;
  auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; };
  return (letter(text[0]) || text[0] == '/') && std::all_of(text.begin(), text.end(), [&](char c) {
           return letter(c) || std::isdigit(static_cast<unsigned char>(c)) || c == '-' ||
                  c == '.' || c == '/';
         });
}

bool is_flow(const nlohmann::ordered_json& json) {
  return !json.is_structured() || json.empty() ||
         (json.is_array() && std::none_of(json.begin(), json.end(),
                                          [](auto& element) { return element.is_structured(); }));
}

std::string flow(const nlohmann::ordered_json& json) {
  if (json.is_string()) {
    auto text = json.get<std::string>();
    return is_plain(text) ? text : json.dump();
  }
  if (!json.is_array()) return json.dump();
  std::vector<std::string> elements;
  for (const auto& element : json) elements.push_back(flow(element));
  return fmt::format("[{}]", fmt::join(elements, ", "));
}

void write_block(std::string& out, const nlohmann::ordered_json& json, const std::string& indent,
                 bool indented) {
  auto begin_line = [&] {
    if (!std::exchange(indented, false)) out += indent;
  };
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      begin_line();
      out += flow(key) + ":";
      if (is_flow(value)) {
        out += fmt::format(" {}\n", flow(value));
      } else {
        out += "\n";
        write_block(out, value, indent + "  ", false);
      }
    }
  } else {
    for (const auto& value : json) {
      begin_line();
      out += "- ";
      if (is_flow(value)) {
        out += fmt::format("{}\n", flow(value));
      } else {
        write_block(out, value, indent + "  ", true);
      }
    }
  }
}

}  // namespace

std::string yaml_text(const nlohmann::ordered_json& json) {
  if (is_flow(json)) return flow(json) + "\n";
  std::string out;
  write_block(out, json, "", false);
  return out;
}

}  // namespace resurface
