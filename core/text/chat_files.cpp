#include "core/text/chat_files.h"

#include "core/run/files.h"
#include "core/text/json_node.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json read_object(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  auto json = read_json(path);
  JsonNode{json, path.string(), ""}.object();
  return json;
}

/// A token as text: a string, or an object with its "content".
std::string token_text(const JsonNode& node) {
  return node.json.is_object() ? node.at("content").string() : node.string();
}

void read_tokens(const JsonNode& root, nlohmann::ordered_json& tokens) {
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    if (root.has(name) && !tokens.contains(name)) tokens[name] = token_text(root.at(name));
  }
  if (root.has("additional_special_tokens") && !tokens.contains("additional_special_tokens")) {
    const auto list = root.at("additional_special_tokens");
    auto texts = nlohmann::ordered_json::array();
    for (size_t i = 0; i < list.array().size(); ++i) texts.push_back(token_text(list.at(i)));
    if (!texts.empty()) tokens["additional_special_tokens"] = texts;
  }
}

/// The first special token that a post-processor puts before a text; empty: none.
std::string begin_of(const JsonNode& processor) {
  const auto type = processor.at("type").string();
  if (type == "Sequence") {
    const auto list = processor.at("processors");
    for (size_t i = 0; i < list.array().size(); ++i) {
      if (auto found = begin_of(list.at(i)); !found.empty()) return found;
    }
  }
  if (type == "TemplateProcessing") {
    const auto single = processor.at("single");
    if (!single.array().empty() && single.at(size_t{0}).has("SpecialToken")) {
      return single.at(size_t{0}).at("SpecialToken").at("id").string();
    }
  }
  return "";
}

void add_special(const JsonNode& token, nlohmann::ordered_json& special) {
  if (token.flag("special", true)) special.push_back(token.at("content").string());
}

void read_template(const fs::path& folder, const JsonNode& config, ChatFiles& files) {
  const fs::path own = folder / "chat_template.jinja";
  if (fs::exists(own)) {
    files.text = read_text(own);
    files.where = own.string();
    return;
  }
  if (!config.has("chat_template")) return;
  const auto entry = config.at("chat_template");
  files.where = entry.where();
  if (!entry.json.is_array()) {
    files.text = entry.string();
    return;
  }
  for (size_t i = 0; i < entry.json.size(); ++i) {
    const auto one = entry.at(i);
    if (one.at("name").string() != "default") continue;
    files.text = one.at("template").string();
    files.where = one.where();
    return;
  }
  entry.wrong("a template named 'default'");
}

}  // namespace

ChatFiles read_chat_files(const fs::path& folder) {
  const fs::path config_path = folder / "tokenizer_config.json";
  const Json config_json = read_object(config_path);
  const JsonNode config{config_json, config_path.string(), ""};
  ChatFiles files;
  read_template(folder, config, files);

  // With added_tokens_decoder in the config transformers does not look at the older file.
  const fs::path map_path = folder / "special_tokens_map.json";
  const bool complete = config.has("added_tokens_decoder");
  const Json map = complete ? Json::object() : read_object(map_path);
  read_tokens(config, files.tokens);
  read_tokens({map, map_path.string(), ""}, files.tokens);

  auto special = nlohmann::ordered_json::array();
  if (complete) {
    const auto decoder = config.at("added_tokens_decoder");
    for (const auto& [id, token] : decoder.object().items()) add_special(decoder.at(id), special);
  }
  const bool adds_bos = config.flag("add_bos_token", false);
  if (adds_bos && files.tokens.contains("bos_token")) {
    files.begin = files.tokens["bos_token"].get<std::string>();
  }
  if (!complete || (!files.text && !config.has("add_bos_token"))) {
    const fs::path tokenizer_path = folder / "tokenizer.json";
    const Json tokenizer_json = read_object(tokenizer_path);
    const JsonNode tokenizer{tokenizer_json, tokenizer_path.string(), ""};
    if (tokenizer.has("added_tokens")) {
      const auto added = tokenizer.at("added_tokens");
      for (size_t i = 0; i < added.array().size(); ++i) add_special(added.at(i), special);
    }
    if (!config.has("add_bos_token") && tokenizer.has("post_processor")) {
      files.begin = begin_of(tokenizer.at("post_processor"));
    }
  }
  files.tokens["special_tokens"] = special;
  return files;
}

}  // namespace resurface
