#include "core/text/chat.h"

#include <fstream>
#include <sstream>

#include "core/text/json_node.h"

namespace resurface {
namespace {

constexpr std::string_view smollm2_system =
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\n";

constexpr std::string_view chatml_template =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}";

constexpr std::string_view smollm2_template =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) fail("{}: cannot be opened", path.string());
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

/// Jinja drops one newline at the end; in its strings a newline may be written \n.
std::string canonical(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text.substr(i, 2) == "\\n";
    result.push_back(escaped ? '\n' : text[i]);
    if (escaped) ++i;
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

ChatFormat recognise(const std::string& text, const std::string& where) {
  const auto known = canonical(text);
  if (known == smollm2_template) return ChatFormat::named("smollm2");
  if (known == chatml_template) return ChatFormat::named("chatml");
  fail("{}: this chat template is not one of the built-in formats (plain, chatml, smollm2):\n{}",
       where, text);
}

}  // namespace

ChatFormat ChatFormat::named(const std::string& name) {
  ChatFormat format;
  format.name_ = name;
  if (name == "plain") {
    format.answer_start_ = " ";
    format.answer_end_ = "\n";
  } else if (name == "chatml" || name == "smollm2") {
    format.answer_end_ = "<|im_end|>";
  } else {
    fail("unknown chat format '{}'; valid formats: plain, chatml, smollm2", name);
  }
  return format;
}

ChatFormat ChatFormat::load(const std::filesystem::path& folder) {
  // transformers prefers the file of its own to the key.
  const auto jinja = folder / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) return recognise(read_file(jinja), jinja.string());
  const auto config = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(config)) return named("plain");
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(read_file(config));
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", config.string(), error.what());
  }
  const JsonNode root{json, config.string(), ""};
  root.object();
  if (!root.has("chat_template")) return named("plain");
  const auto entry = root.at("chat_template");
  if (!entry.json.is_array()) return recognise(entry.string(), entry.where());
  for (size_t i = 0; i < entry.json.size(); ++i) {
    const auto one = entry.at(i);
    if (one.at("name").string() == "default") {
      return recognise(one.at("template").string(), one.where());
    }
  }
  entry.wrong("a template named 'default'");
}

std::string ChatFormat::prompt(const std::vector<Message>& messages) const {
  std::string text;
  if (name_ == "plain") {
    for (const auto& [role, content] : messages) {
      if (role == "user") {
        text += fmt::format("Question: {}\nAnswer:", content);
      } else if (role == "assistant") {
        text += answer_start_ + content + answer_end_;
      } else if (role == "system") {
        text += fmt::format("{}\n", content);
      } else {
        fail("unknown role '{}'; valid roles: system, user, assistant", role);
      }
    }
    return text;
  }
  if (name_ == "smollm2" && !messages.empty() && messages[0].role != "system")
    text = smollm2_system;
  for (const auto& [role, content] : messages) {
    text += fmt::format("<|im_start|>{}\n{}<|im_end|>\n", role, content);
  }
  return text + "<|im_start|>assistant\n";
}

}  // namespace resurface
