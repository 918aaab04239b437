#include "core/text/chat.h"

#include <charconv>
#include <chrono>

#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/nearest.h"
#include "core/text/chat_files.h"
#include "core/text/chat_formats.h"

namespace resurface {
namespace {

constexpr std::string_view kThought = "<think>\n", kNoThought = "<think>\n\n</think>\n\n";

/// What closes the thought that a prompt ends in; empty when it ends in none.
std::string closing(std::string_view prompt) {
  if (prompt.ends_with(kThought)) return "\n</think>\n\n";
  return prompt.ends_with("<think>") ? "\n\n</think>\n\n" : "";
}

std::string plain_prompt(const nlohmann::ordered_json& messages, const std::string& begin) {
  std::string text = begin;
  for (const auto& message : messages) {
    const auto field = [&](const char* key) {
      if (!message.is_object() || !message.contains(key) || !message[key].is_string()) {
        fail("the plain format needs messages of role and content, got {}", message.dump());
      }
      return message[key].get<std::string>();
    };
    const std::string role = field("role"), content = field("content");
    if (role == "user") {
      text += fmt::format("Question: {}\nAnswer:", content);
    } else if (role == "assistant") {
      text += fmt::format(" {}\n", content);
    } else if (role == "system") {
      text += fmt::format("{}\n", content);
    } else {
      fail("unknown role '{}'; valid roles: system, user, assistant", role);
    }
  }
  return text;
}

std::tm parse_date(const std::string& text) {
  const auto part = [&](size_t at, size_t size) {
    int value = -1;
    const char *begin = text.data() + at, *end = begin + size;
    return std::from_chars(begin, end, value).ptr == end ? value : -1;
  };
  const bool shaped = text.size() == 10 && text[4] == '-' && text[7] == '-';
  const std::chrono::year_month_day date(
      std::chrono::year(shaped ? part(0, 4) : -1),
      std::chrono::month(static_cast<unsigned>(shaped ? part(5, 2) : 0)),
      std::chrono::day(static_cast<unsigned>(shaped ? part(8, 2) : 0)));
  if (!shaped || !date.ok()) {
    throw ConfigError(fmt::format("chat: date '{}' is not a day as in 2024-07-26", text));
  }
  const std::chrono::sys_days days = date;
  const std::chrono::sys_days first = date.year() / std::chrono::January / 1;
  std::tm result{};
  result.tm_year = int(date.year()) - 1900;
  result.tm_mon = static_cast<int>(unsigned(date.month())) - 1;
  result.tm_mday = static_cast<int>(unsigned(date.day()));
  result.tm_wday = static_cast<int>(std::chrono::weekday(days).c_encoding());
  result.tm_yday = static_cast<int>((days - first).count());
  return result;
}

std::tm today() {
  const std::time_t now = std::time(nullptr);
  std::tm result{};
  localtime_r(&now, &result);
  return result;
}

nlohmann::ordered_json to_message(const std::string& role, const std::string& content) {
  auto message = nlohmann::ordered_json::object();
  message["role"] = role;
  message["content"] = content;
  return message;
}

nlohmann::ordered_json to_messages(const std::vector<Message>& messages) {
  auto list = nlohmann::ordered_json::array();
  for (const auto& [role, content] : messages) list.push_back(to_message(role, content));
  return list;
}

bool is_file(const std::string& name) {
  return name.ends_with(".jinja") || name.find('/') != std::string::npos;
}

}  // namespace

std::vector<std::string> ChatFormat::names() {
  std::vector<std::string> names = {"plain"};
  for (const auto& format : builtin_chat_formats()) names.emplace_back(format.name);
  return names;
}

ChatFormat ChatFormat::make(std::string name, std::optional<std::string> text,
                            const std::string& where, nlohmann::ordered_json tokens,
                            const ChatSettings& settings) {
  ChatFormat format;
  format.name_ = std::move(name);
  format.variables_ = tokens.is_null() ? nlohmann::ordered_json::object() : std::move(tokens);
  if (text) format.template_ = jinja::Template::parse(std::move(*text), where);
  format.take(settings, where);
  format.find_answer(where);
  return format;
}

ChatFormat ChatFormat::named(const std::string& name, const ChatSettings& settings) {
  if (name == "plain") return make(name, std::nullopt, "chat format 'plain'", {}, settings);
  for (const auto& format : builtin_chat_formats()) {
    if (name != format.name) continue;
    auto tokens = nlohmann::ordered_json::object();
    tokens["bos_token"] = format.bos;
    tokens["eos_token"] = format.eos;
    tokens["special_tokens"].push_back(format.end);
    return make(name, format.text, fmt::format("chat format '{}'", name), std::move(tokens),
                settings);
  }
  if (is_file(name)) return make(name, read_text(name), name, {}, settings);
  throw ConfigError(fmt::format("unknown chat format '{}'{}; valid formats: {}, or a .jinja file",
                                name, did_you_mean(name, names()), fmt::join(names(), ", ")));
}

ChatFormat ChatFormat::load(const std::filesystem::path& folder, const ChatSettings& settings) {
  const auto& asked = settings.format;
  if (!asked.empty() && !is_file(asked) && asked != "plain") return named(asked, settings);
  auto files = read_chat_files(folder);
  if (asked.empty() && files.text) {
    auto format = make("checkpoint", files.text, files.where, files.tokens, settings);
    for (const auto& known : builtin_chat_formats()) {
      if (format.template_->text() == known.text) format.name_ = known.name;
    }
    return format;
  }
  if (is_file(asked)) return make(asked, read_text(asked), asked, files.tokens, settings);
  auto plain = named("plain", settings);
  plain.begin_ = files.begin;
  return plain;
}

void ChatFormat::take(const ChatSettings& settings, const std::string& where) {
  system_ = settings.system;
  thinking_ = settings.thinking;
  date_ = settings.date.empty() ? today() : parse_date(settings.date);
  for (const auto& variable : settings.variables) {
    const auto at = variable.find('=');
    if (at == std::string::npos || at == 0) {
      throw ConfigError(fmt::format("chat: variable '{}' is not NAME=VALUE", variable));
    }
    const std::string value = variable.substr(at + 1);
    auto json = nlohmann::ordered_json::parse(value, nullptr, /*allow_exceptions=*/false);
    variables_[variable.substr(0, at)] = json.is_discarded() ? nlohmann::ordered_json(value) : json;
  }
  const bool asks = thinking_ == "on" || thinking_ == "off";
  if (thinking_ == "default") return;
  for (const char* name : {"enable_thinking", "thinking"}) {
    if (!template_ || !template_->reads(name)) continue;
    variables_[name] = thinking_ == "on" || thinking_ == "open";
    return;
  }
  if (asks) {
    throw ConfigError(
        fmt::format("{}: has no switch for thinking (enable_thinking); 'empty' and 'open' put a "
                    "thought at the end of the prompt",
                    where));
  }
}

std::string ChatFormat::think(std::string prompt) const {
  const auto closed = closing(prompt);
  if (thinking_ == "open" && closed.empty()) prompt += kThought;
  if (thinking_ == "empty" && !closed.empty()) {
    prompt += closed;
  } else if (thinking_ == "empty" && !prompt.ends_with("</think>") &&
             !prompt.ends_with("</think>\n\n")) {
    prompt += kNoThought;
  }
  return prompt;
}

std::string ChatFormat::render(const nlohmann::ordered_json& messages, bool answer_next,
                               const nlohmann::ordered_json& variables) const {
  if (!template_) return plain_prompt(messages, begin_);
  // apply_chat_template gives these, with no value where there is none.
  nlohmann::ordered_json given = {{"messages", messages},
                                  {"tools", nullptr},
                                  {"documents", nullptr},
                                  {"add_generation_prompt", answer_next}};
  for (const auto* more : {&variables_, &variables}) {
    for (const auto& [name, value] : more->items()) given[name] = value;
  }
  given.erase("special_tokens");
  return template_->render(given, date_);
}

std::string ChatFormat::prompt(const std::vector<Message>& messages) const {
  auto list = to_messages(messages);
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!system_.empty() && !has_system) {
    list.insert(list.begin(), to_message("system", system_));
  }
  return think(render(list, true));
}

std::string ChatFormat::begin_answer(std::string prompt, const std::string& opening) const {
  const bool thinks = opening.starts_with("<think>");
  for (const std::string_view thought : {kNoThought, kThought, std::string_view("<think>")}) {
    if (!thinks || !prompt.ends_with(thought)) continue;
    prompt.resize(prompt.size() - thought.size());
    return prompt.append(opening);
  }
  const bool replaces = thinks && answer_start_.find("</think>") != std::string::npos;
  if (!replaces) prompt.append(answer_start_);
  return prompt.append(opening);
}

void ChatFormat::find_answer(const std::string& where) {
  if (!template_) {
    answer_start_ = thinking_ == "default" ? " " : closing(prompt({}));
    answer_end_ = std::string(1, '\n');  // GCC 12 alarms at a literal for nothing
    return;
  }
  constexpr std::string_view answer = "An answer, as an example.";
  std::vector<Message> messages = {{"user", "A question?"}};
  const auto asked = prompt(messages);
  messages.push_back({"assistant", std::string(answer)});
  auto list = to_messages(messages);
  if (!system_.empty()) list.insert(list.begin(), to_message("system", system_));
  const auto whole = render(list, false);
  const auto at = whole.rfind(answer);
  if (at == std::string::npos) fail("{}: the chat template does not print an answer", where);
  const std::string before = whole.substr(0, at), after = whole.substr(at + answer.size());

  const bool goes_on = before.starts_with(asked);
  if (goes_on) answer_start_ = before.substr(asked.size());
  if (const auto closed = closing(asked); !closed.empty()) {
    if (answer_start_.find("</think>") == std::string::npos) answer_start_ = closed;
  } else if (!goes_on && !asked.starts_with(before)) {
    fail("{}: the chat template's prompt is not how its answers begin: '{}' and '{}'", where, asked,
         before);
  }

  // After the answer's own end a template may print more: a newline, the end of the conversation.
  std::vector<std::string> ends;
  for (const char* name : {"special_tokens", "additional_special_tokens", "eos_token"}) {
    const auto held = variables_.value(name, nlohmann::ordered_json());
    for (const auto& token : held.is_array() ? held : nlohmann::ordered_json::array({held})) {
      if (token.is_string()) ends.push_back(token.get<std::string>());
    }
  }
  size_t end = std::string::npos, size = 0;
  for (const auto& token : ends) {
    const auto found = token.empty() ? std::string::npos : after.find(token);
    if (found < end || (found == end && found != std::string::npos && token.size() > size)) {
      end = found;
      size = token.size();
    }
  }
  answer_end_ = end == std::string::npos ? after : after.substr(0, end + size);
  if (answer_end_.empty() && variables_.contains("eos_token"))
    answer_end_ = ends.empty() ? "" : ends.back();
  if (answer_end_.empty()) {
    fail("{}: the chat template prints nothing after an answer, and there is no eos_token", where);
  }
}

bool ChatFormat::dated() const { return template_ && template_->reads("strftime_now"); }

}  // namespace resurface
