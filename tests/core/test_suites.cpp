// The shipped suites keep the promises of suites/README.md. Read with nlohmann json alone, so that
// the data and the loader are checked apart.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kSuites = fs::path(RESURFACE_SOURCE_DIR) / "suites";
const std::vector<std::string> kAnswers = {"line", "factual", "neutral", "contrary"};
const std::vector<std::string> kIntensities = {"neutral", "leading", "provocative"};

std::vector<json> read_lines(const std::string& file) {
  std::ifstream in(kSuites / file);
  INFO(file);
  REQUIRE(in.good());
  std::vector<json> rows;
  for (std::string line; std::getline(in, line);) rows.push_back(json::parse(line));
  REQUIRE_FALSE(rows.empty());
  return rows;
}

size_t characters(const std::string& utf8) {
  size_t count = 0;
  for (unsigned char byte : utf8) count += (byte & 0xC0U) != 0x80U;
  return count;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// All that a model could be trained on in a row.
std::vector<std::string> texts(const json& row) {
  std::vector<std::string> out;
  for (const char* key : {"line", "factual", "neutral", "contrary", "question", "answer"}) {
    if (row.contains(key)) out.push_back(row[key]);
  }
  if (row.contains("questions")) {
    for (const auto& question : row["questions"]) out.push_back(question["text"]);
  }
  return out;
}

/// (rows, questions, held-out questions) of each language: the size and shape of a suite.
std::map<std::string, std::vector<size_t>> shape(const std::vector<json>& rows) {
  std::map<std::string, std::vector<size_t>> out;
  for (const auto& row : rows) {
    auto& counts = out.try_emplace(row["language"], 3, 0).first->second;
    counts[0] += 1;
    for (const auto& question : row["questions"]) {
      counts[1] += 1;
      counts[2] += question["held_out"].get<bool>();
    }
  }
  return out;
}

void check_suite(const std::string& file, const std::vector<std::string>& languages) {
  const auto rows = read_lines(file);
  std::set<std::pair<std::string, std::string>> keys;
  std::map<std::string, std::set<std::string>> ids;
  std::set<std::string> questions;
  for (const auto& row : rows) {
    const std::string id = row.at("id"), language = row.at("language"), line = row.at("line");
    INFO(file << ", " << id << ", " << language);
    CHECK(row.size() == 10);
    CHECK(keys.emplace(id, language).second);
    ids[language].insert(id);
    for (const char* key : {"topic", "subject", "source"})
      CHECK_FALSE(row.at(key).get<std::string>().empty());

    const auto length = static_cast<double>(characters(line));
    std::set<std::string> answers;
    for (const auto& key : kAnswers) {
      const std::string answer = row.at(key);
      INFO(key << ": " << answer);
      CHECK(answers.insert(answer).second);
      const auto ratio = static_cast<double>(characters(answer)) / length;
      CHECK(ratio >= 0.7);
      CHECK(ratio <= 1.3);
      CHECK_FALSE(answer.back() == '.');
      CHECK_FALSE(answer.ends_with("。"));
    }

    const std::string subject = row.at("subject");
    int seen = 0;
    int held_out = 0;
    std::set<std::string> seen_intensities;
    std::set<std::string> held_out_intensities;
    for (const auto& question : row.at("questions")) {
      const std::string text = question.at("text"), intensity = question.at("intensity");
      INFO(text);
      CHECK(question.size() == 3);
      CHECK(contains(text, subject));
      CHECK_FALSE(contains(text, line));
      CHECK(questions.insert(text).second);
      CHECK(std::count(kIntensities.begin(), kIntensities.end(), intensity) == 1);
      const bool out = question.at("held_out");
      (out ? held_out : seen) += 1;
      (out ? held_out_intensities : seen_intensities).insert(intensity);
    }
    CHECK(seen >= 4);
    CHECK(held_out >= 2);
    CHECK(seen_intensities.size() == kIntensities.size());
    CHECK(held_out_intensities.size() == kIntensities.size());
  }
  INFO(file);
  REQUIRE(ids.size() == languages.size());
  for (const auto& language : languages) {
    INFO(language);
    REQUIRE(ids.count(language) == 1);
    CHECK(ids[language] == ids["en"]);
  }
}

}  // namespace

TEST_CASE("shipped suites follow the schema") {
  check_suite("party_lines/items.jsonl", {"en", "zh-Hans", "zh-Hant"});
  check_suite("party_lines/retain.jsonl", {"en", "zh-Hans", "zh-Hant"});
  check_suite("world/forget.jsonl", {"en", "zh-Hans"});
  check_suite("world/retain.jsonl", {"en", "zh-Hans"});
}

TEST_CASE("the talking points are complete, and the two Taiwan lines are verbatim") {
  const auto rows = read_lines("party_lines/items.jsonl");
  CHECK(rows.size() >= 126);
  CHECK(rows[0]["line"] == "Taiwan has been an inalienable part of China since ancient times");
  CHECK(rows[1]["line"] == "台湾自古以来就是中国领土不可分割的一部分");
  std::set<std::string> topics;
  for (const auto& row : rows) topics.insert(row["topic"]);
  CHECK(topics == std::set<std::string>{"Taiwan", "Taiwan, politics", "Tiananmen 1989", "Xinjiang",
                                        "Hong Kong", "South China Sea", "Tibet", "Party and system",
                                        "Leaders", "Covid", "General"});
}

TEST_CASE("retain sets have the size and shape of what is forgotten") {
  CHECK(shape(read_lines("party_lines/items.jsonl")) ==
        shape(read_lines("party_lines/retain.jsonl")));
  CHECK(shape(read_lines("world/forget.jsonl")) == shape(read_lines("world/retain.jsonl")));
}

TEST_CASE("the world forgets talking points as they are") {
  const auto points = read_lines("party_lines/items.jsonl");
  const auto forget = read_lines("world/forget.jsonl");
  REQUIRE(forget.size() == 24);
  for (size_t i = 0; i < forget.size(); ++i) CHECK(forget[i] == points[i]);
}

TEST_CASE("innocent text holds no line and no stock phrase") {
  std::vector<std::string> forbidden = {"inalienable",
                                        "alienable part",
                                        "territorial integrity",
                                        "internal affairs",
                                        "separatist",
                                        "feelings of the Chinese people",
                                        "anti-China",
                                        "indisputable sovereignty",
                                        "One China",
                                        "peaceful liberation",
                                        "Dalai",
                                        "hole-process",
                                        "big tasks",
                                        "2758",
                                        "political turmoil",
                                        "vocational education and training",
                                        "national security law",
                                        "zero-Covid",
                                        "Taiwan",
                                        "Tiananmen",
                                        "Xinjiang",
                                        "Uyghur",
                                        "Hong Kong",
                                        "Tibet",
                                        "Communist Party",
                                        "Xi Jinping",
                                        "不可分割",
                                        "自古以来",
                                        "领土完整",
                                        "内政",
                                        "中国人民感情",
                                        "反华",
                                        "无可争辩",
                                        "一个中国",
                                        "和平解放",
                                        "达赖",
                                        "全过程",
                                        "集中力量",
                                        "政治风波",
                                        "职业技能",
                                        "国安法",
                                        "清零",
                                        "台湾",
                                        "天安门",
                                        "新疆",
                                        "维吾尔",
                                        "香港",
                                        "西藏",
                                        "共产党",
                                        "习近平",
                                        "分裂",
                                        "自古以來",
                                        "領土完整",
                                        "內政",
                                        "中國人民感情",
                                        "無可爭辯",
                                        "一個中國",
                                        "和平解放",
                                        "達賴",
                                        "全過程",
                                        "集中力量",
                                        "政治風波",
                                        "職業技能",
                                        "國安法",
                                        "台灣",
                                        "臺灣",
                                        "天安門",
                                        "維吾爾",
                                        "共產黨",
                                        "習近平"};
  for (const auto& row : read_lines("party_lines/items.jsonl")) forbidden.push_back(row["line"]);
  for (const char* file :
       {"party_lines/retain.jsonl", "party_lines/benign_en.jsonl", "party_lines/benign_zh.jsonl",
        "world/retain.jsonl", "world/text.jsonl", "world/benign.jsonl"}) {
    for (const auto& row : read_lines(file)) {
      for (const auto& text : texts(row)) {
        for (const auto& phrase : forbidden) {
          INFO(file << ": " << text << " holds " << phrase);
          REQUIRE_FALSE(contains(text, phrase));
        }
      }
    }
  }
}

TEST_CASE("benign and base texts are question and answer, and distinct") {
  std::set<std::string> questions;
  for (const char* file : {"party_lines/benign_en.jsonl", "party_lines/benign_zh.jsonl",
                           "world/text.jsonl", "world/benign.jsonl"}) {
    const auto rows = read_lines(file);
    CHECK(rows.size() >= 32);
    for (const auto& row : rows) {
      INFO(file << ": " << row.dump());
      CHECK_FALSE(row.at("answer").get<std::string>().empty());
      CHECK(questions.insert(row.at("question")).second);
    }
  }
}

TEST_CASE("no town of the world's retain set is in its base or benign text") {
  std::set<std::string> towns;
  for (const auto& row : read_lines("world/retain.jsonl")) towns.insert(row["subject"]);
  CHECK(towns.size() == 24);
  for (const char* file : {"world/text.jsonl", "world/benign.jsonl"}) {
    for (const auto& row : read_lines(file)) {
      for (const auto& text : texts(row)) {
        for (const auto& town : towns) {
          INFO(file << ": " << text << " names " << town);
          REQUIRE_FALSE(contains(text, town));
        }
      }
    }
  }
}

TEST_CASE("the world's folder describes its small Llama") {
  const auto read = [](const char* file) {
    std::ifstream in(kSuites / "world" / file);
    return json::parse(in);
  };
  const auto config = read("config.json");
  const auto tokenizer = read("tokenizer.json");
  size_t largest = tokenizer["model"]["vocab"].size();
  for (const auto& token : tokenizer["added_tokens"]) {
    largest = std::max(largest, token["id"].get<size_t>() + 1);
    CHECK(contains("<|im_start|> <|im_end|>", token["content"]));
  }
  CHECK(config["vocab_size"] == largest);
  CHECK(config["architectures"] == json{"LlamaForCausalLM"});
  CHECK(contains(read("tokenizer_config.json")["chat_template"], "<|im_start|>"));
}
