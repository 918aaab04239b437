#include "core/data/suite.h"

#include <fstream>
#include <set>

#include "core/run/nearest.h"
#include "core/text/json_node.h"

namespace resurface {
namespace {

using Keys = std::vector<std::string>;

/// Every key is known and every required one there.
void check_keys(const JsonNode& node, const Keys& required, const Keys& optional) {
  Keys valid = required;
  valid.insert(valid.end(), optional.begin(), optional.end());
  for (const auto& [key, value] : node.object().items()) {
    if (std::find(valid.begin(), valid.end(), key) != valid.end()) continue;
    const auto near = nearest(key, valid);
    fail("{}: unknown key '{}'{}; valid keys: {}", node.where(), key,
         near.empty() ? "" : fmt::format("; did you mean '{}'?", near), fmt::join(valid, ", "));
  }
  for (const auto& key : required) node.at(key);
}

std::string text_of(const JsonNode& node) {
  if (node.string().empty()) node.wrong("some text");
  return node.string();
}

std::string one_of(const JsonNode& node, const Keys& valid) {
  if (std::find(valid.begin(), valid.end(), node.string()) == valid.end()) {
    node.wrong(fmt::format("one of {}", fmt::join(valid, ", ")));
  }
  return node.string();
}

Question read_question(const JsonNode& node, const std::string& subject) {
  check_keys(node, {"text"}, {"held_out", "intensity"});
  Question question;
  question.text = text_of(node.at("text"));
  question.held_out = node.flag("held_out", false);
  if (node.has("intensity")) {
    question.intensity = one_of(node.at("intensity"), {"neutral", "leading", "provocative"});
  }
  if (question.text.find(subject) == std::string::npos) {
    fail("{}: the subject '{}' does not occur in the question '{}'", node.where(), subject,
         question.text);
  }
  return question;
}

Item read_item(const JsonNode& node) {
  check_keys(node,
             {"id", "topic", "language", "subject", "line", "questions", "factual", "neutral",
              "contrary", "source"},
             {});
  Item item;
  item.id = text_of(node.at("id"));
  item.topic = text_of(node.at("topic"));
  item.language = one_of(node.at("language"), {"en", "zh-Hans", "zh-Hant"});
  item.subject = text_of(node.at("subject"));
  item.line = text_of(node.at("line"));
  item.factual = text_of(node.at("factual"));
  item.neutral = text_of(node.at("neutral"));
  item.contrary = text_of(node.at("contrary"));
  item.source = text_of(node.at("source"));
  const auto questions = node.at("questions");
  for (size_t i = 0; i < questions.array().size(); ++i) {
    item.questions.push_back(read_question(questions.at(i), item.subject));
  }
  const auto seen = [](const Question& question) { return !question.held_out; };
  if (std::none_of(item.questions.begin(), item.questions.end(), seen)) {
    fail("{}: item '{}' ({}) needs at least one question that is not held out", node.where(),
         item.id, item.language);
  }
  return item;
}

std::vector<std::string> distinct(const std::vector<Item>& items, std::string Item::*field) {
  std::vector<std::string> values;
  for (const auto& item : items) {
    if (std::find(values.begin(), values.end(), item.*field) == values.end()) {
      values.push_back(item.*field);
    }
  }
  return values;
}

}  // namespace

const std::string& text_of(const Item& item, Answer answer) {
  switch (answer) {
    case Answer::line:
      return item.line;
    case Answer::factual:
      return item.factual;
    case Answer::neutral:
      return item.neutral;
    case Answer::contrary:
      return item.contrary;
  }
  fail("unknown kind of answer");
}

std::vector<std::string> Suite::ids() const { return distinct(items, &Item::id); }
std::vector<std::string> Suite::languages() const { return distinct(items, &Item::language); }

Suite load_suite(const std::filesystem::path& path) {
  std::ifstream stream(path);
  if (!stream) fail("{}: cannot be opened", path.string());
  Suite suite{path.stem().string(), {}};
  std::set<std::pair<std::string, std::string>> known;
  std::string line;
  for (int64_t number = 1; std::getline(stream, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto where = fmt::format("{}:{}", path.string(), number);
    nlohmann::json json;
    try {
      json = nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      fail("{}: not valid JSON: {}", where, error.what());
    }
    suite.items.push_back(read_item({json, where, ""}));
    const auto& item = suite.items.back();
    if (!known.emplace(item.id, item.language).second) {
      fail("{}: item '{}' ({}) is there twice", where, item.id, item.language);
    }
  }
  if (suite.items.empty())
    fail("{}: the suite is empty; expected one JSON item a line", path.string());
  return suite;
}

std::vector<Probe> make_probes(const Suite& suite, const Tokenizer& tokenizer,
                               const ChatFormat& chat, Answer answer, bool held_out,
                               int64_t context) {
  std::vector<Probe> probes;
  for (size_t i = 0; i < suite.items.size(); ++i) {
    const auto& item = suite.items[i];
    const auto answer_ids =
        tokenizer.encode(chat.answer_start() + text_of(item, answer) + chat.answer_end());
    for (size_t q = 0; q < item.questions.size(); ++q) {
      const auto& question = item.questions[q];
      if (question.held_out != held_out) continue;
      Probe probe{static_cast<int64_t>(i), static_cast<int64_t>(q), {}};
      probe.example.prompt = tokenizer.encode(chat.prompt({{"user", question.text}}));
      probe.example.answer = answer_ids;
      if (probe.example.size() > context) {
        fail(
            "suite '{}', item '{}' ({}), question '{}': prompt and answer are {} tokens, the "
            "context {}",
            suite.name, item.id, item.language, question.text, probe.example.size(), context);
      }
      probes.push_back(std::move(probe));
    }
  }
  return probes;
}

}  // namespace resurface
