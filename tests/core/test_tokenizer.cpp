#include <catch2/catch.hpp>
#include <fstream>

#include "core/run/error.h"
#include "core/text/tokenizer.h"

using namespace resurface;
using Catch::Matchers::Contains;

namespace {

const std::filesystem::path data = std::filesystem::path(RESURFACE_TEST_DATA) / "text";

nlohmann::json read_json(const std::string& name) {
  std::ifstream stream(data / name / "tokenizer.json");
  return nlohmann::json::parse(stream);
}

/// A folder with one tokenizer.json, gone with the object.
class Folder {
 public:
  explicit Folder(const std::string& content)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("resurface-tokenizer-{}", static_cast<const void*>(this))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "tokenizer.json") << content;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void check_refused(const nlohmann::json& json, const std::string& message) {
  const Folder folder(json.dump());
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()),
                    Contains("tokenizer.json") && Contains(message));
}

}  // namespace

// Ids and texts from `tokenizers`: scripts/golden_tokenizer.py.
TEST_CASE("tokenizer gives the ids and texts of tokenizers") {
  const std::string name = GENERATE("smollm", "llama3", "gpt2", "mixed");
  const auto tokenizer = Tokenizer::load(data / name);
  std::ifstream stream(data / name / "golden.jsonl");
  std::string line;
  int64_t count = 0;
  while (std::getline(stream, line)) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row["text"].get<std::string>();
    INFO(name << ": " << row["text"].dump());
    const auto ids = tokenizer.encode(text);
    CHECK(ids == row["ids"].get<std::vector<int64_t>>());
    CHECK(tokenizer.decode(ids) == row["decoded"].get<std::string>());
    CHECK(tokenizer.decode(ids, true) == row["plain"].get<std::string>());
    // Nothing is rewritten by these two, so the offsets cut the text into its tokens.
    if (name == "smollm" || name == "llama3") {
      const auto [same, offsets] = tokenizer.encode_with_offsets(text);
      CHECK(same == ids);
      int64_t end = 0;
      for (const auto& [from, to] : offsets) {
        CHECK(from == end);
        end = to;
      }
      CHECK(end == static_cast<int64_t>(text.size()));
    }
    ++count;
  }
  CHECK(count == 100);
}

TEST_CASE("offsets point into the text as it was before normalisation") {
  const auto tokenizer = Tokenizer::load(data / "gpt2");
  const std::string text =
      "cafe\xCC\x81 x<end>  y";  // e and a combining accent: one character in NFC
  const auto [ids, offsets] = tokenizer.encode_with_offsets(text);
  REQUIRE(ids.size() == offsets.size());
  CHECK(offsets.front().first == 0);
  CHECK(offsets.back() == std::pair<int64_t, int64_t>(15, 16));
  const auto end = std::find(ids.begin(), ids.end(), tokenizer.token_id("<end>")) - ids.begin();
  CHECK(offsets[static_cast<size_t>(end)] == std::pair<int64_t, int64_t>(8, 15));
}

TEST_CASE("invalid UTF-8 is refused, and made visible by decode") {
  const auto tokenizer = Tokenizer::load(data / "smollm");
  CHECK_THROWS_WITH(tokenizer.encode("ab\xC0\xAF"), Contains("invalid UTF-8 at byte 2"));
  CHECK_THROWS_WITH(tokenizer.encode("\xED\xA0\x80"), Contains("invalid UTF-8"));
  const auto ids = tokenizer.encode("台");
  REQUIRE(ids.size() > 1);
  CHECK(tokenizer.decode({ids[0]}).find("\xEF\xBF\xBD") == 0);
}

TEST_CASE("a tokenizer.json that cannot be used is refused by name") {
  CHECK_THROWS_WITH(Tokenizer::load(data / "nowhere"), Contains("cannot be opened"));
  const Folder truncated(read_json("smollm").dump().substr(0, 500));
  CHECK_THROWS_WITH(Tokenizer::load(truncated.path()), Contains("not valid JSON"));

  const auto good = read_json("smollm");
  auto json = good;
  json["model"]["merges"][3] = {"a", "never-a-token"};
  check_refused(json, "model.merges[3]: merge 'a never-a-token' names 'never-a-token'");
  json = good;
  json["model"]["merges"][0] = "abc";
  check_refused(json, "model.merges[0]: expected two tokens");
  json = good;
  json["model"]["vocab"]["a"] = "x";
  check_refused(json, "expected an id");
  json = good;
  json["model"]["type"] = "Unigram";
  check_refused(json, "model 'Unigram' is not implemented");
  json = good;
  json["model"]["byte_fallback"] = true;
  check_refused(json, "byte_fallback is not implemented");
  json = good;
  json["normalizer"] = {{"type", "Nmt"}};
  check_refused(json, "normalizer 'Nmt' is not implemented");
  json = good;
  json["pre_tokenizer"] = {{"type", "Metaspace"}};
  check_refused(json, "pre_tokenizer 'Metaspace' is not implemented");
  json = good;
  json["decoder"] = {{"type", "WordPiece"}};
  check_refused(json, "decoder 'WordPiece' is not implemented");
  json = good;
  json["added_tokens"][0]["id"] = 9999;
  check_refused(json, "added_tokens[0]: token '<|endoftext|>' has id 9999");
  json = read_json("llama3");
  auto& pattern = json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
  pattern = "[a[b]]";
  check_refused(json, "a class within a class is not implemented");
  pattern = "(a";
  check_refused(json, "regex '(a'");
}
