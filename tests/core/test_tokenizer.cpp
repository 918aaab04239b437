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

using Ids = std::vector<int64_t>;
using Offsets = std::vector<std::pair<int64_t, int64_t>>;

/// The references give places in characters: those that a token of ours touches.
Offsets whole_characters(const std::string& text, Offsets offsets) {
  const auto inside = [&](int64_t at) {
    return at < static_cast<int64_t>(text.size()) && (text[static_cast<size_t>(at)] & 0xC0) == 0x80;
  };
  for (auto& [begin, end] : offsets) {
    while (inside(begin)) --begin;
    while (end > begin && inside(end)) ++end;
  }
  return offsets;
}

void check_refused(const nlohmann::json& json, const std::string& message) {
  const Folder folder(json.dump());
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()),
                    Contains("tokenizer.json") && Contains(message));
}

}  // namespace

// Ids, offsets and texts from `tokenizers`, sentencepiece and tiktoken:
// scripts/golden_tokenizer.py.
TEST_CASE("tokenizer gives the ids, offsets and texts of its reference") {
  const std::string name =
      GENERATE("smollm", "llama3", "gpt2", "mixed", "llama2", "gemma", "few_bytes", "roberta",
               "trimmed", "clip", "gpt1", "prefixed", "falcon", "byte_normalizer", "nested_classes",
               "t5", "albert", "unigram_bytes", "bert", "bert_cased", "word_level", "ctc",
               "fixed_length", "sentencepiece_bpe", "sentencepiece_unigram", "kimi", "qwen");
  const auto tokenizer = Tokenizer::load(data / name);
  std::ifstream stream(data / name / "golden.jsonl");
  std::string line;
  int64_t count = 0;
  while (std::getline(stream, line)) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row["text"].get<std::string>();
    INFO(name << ": " << row["text"].dump());
    const auto ids = tokenizer.encode(text);
    CHECK(ids == row["ids"].get<Ids>());
    CHECK(tokenizer.decode(ids) == row["decoded"].get<std::string>());
    const auto [same, offsets] = tokenizer.encode_with_offsets(text);
    CHECK(same == ids);
    for (const auto& [from, to] : offsets) {
      CHECK((0 <= from && from <= to && to <= static_cast<int64_t>(text.size())));
    }
    const auto special = tokenizer.encode_special(text);
    CHECK(special.ids == row["special"].get<Ids>());
    REQUIRE(special.offsets.size() == special.ids.size());
    if (row.contains("plain")) {
      CHECK(tokenizer.decode(special.ids, true) == row["plain"].get<std::string>());
      CHECK(whole_characters(text, offsets) == row["offsets"].get<Offsets>());
    }
    // Nothing is rewritten by these, so the offsets cut the text into its tokens.
    if (name == "smollm" || name == "llama3" || name == "kimi") {
      int64_t end = 0;
      for (const auto& [from, to] : offsets) {
        CHECK(from == end);
        end = to;
      }
      CHECK(end == static_cast<int64_t>(text.size()));
    }
    ++count;
  }
  CHECK(count >= 40);
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
  json["model"]["type"] = "Markov";
  check_refused(json, "model 'Markov' is not implemented");
  json = good;
  json["model"]["dropout"] = 0.1;
  check_refused(json, "dropout is not implemented");
  json = good;
  json["model"]["vocab"]["a"] = 99999;
  check_refused(json, "token 'a' has id 99999, though there are");
  json = good;
  json["normalizer"] = {{"type", "Uppercase"}};
  check_refused(json, "normalizer 'Uppercase' is not implemented");
  json["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
  check_refused(json, "normalizer.precompiled_charsmap: expected a trie");
  std::string nested;
  for (int depth = 0; depth < 50000; ++depth) {
    nested += R"({"type":"Sequence","normalizers":[)";
  }
  const Folder deep(R"({"model":{},"normalizer":)" + nested + "null" + std::string(50000, ']'));
  CHECK_THROWS_WITH(Tokenizer::load(deep.path()), Contains("not valid JSON"));
  std::string closed = R"({"type":"NFC"})";
  for (int depth = 0; depth < 50000; ++depth) closed += "]}";
  const Folder nests(R"({"model":{},"normalizer":)" + nested + closed + "}");
  CHECK_THROWS_WITH(Tokenizer::load(nests.path()), Contains("a Sequence nested this deep"));
  json = good;
  json["pre_tokenizer"] = {{"type", "Lua"}};
  check_refused(json, "pre_tokenizer 'Lua' is not implemented");
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}};
  check_refused(json, "prepend_scheme 'last' is not implemented");
  json["pre_tokenizer"] = {{"type", "FixedLength"}, {"length", 0}};
  check_refused(json, "expected a length above 0");
  json = good;
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}}},
                            {"special_tokens", nlohmann::json::object()}};
  check_refused(json, "expected a key of special_tokens");
  json = good;
  json["decoder"] = {{"type", "Morse"}};
  check_refused(json, "decoder 'Morse' is not implemented");
  json = good;
  json["added_tokens"][0]["id"] = 9999;
  check_refused(json, "added_tokens[0]: token '<|endoftext|>' has id 9999");
  json = read_json("llama3");
  auto& pattern = json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
  pattern = "[a[^b]]";
  check_refused(json, "a negated class within a class is not implemented");
  pattern = "[a[b";
  check_refused(json, "a class without end is not implemented");
  pattern = "(a";
  check_refused(json, "regex '(a'");
}

TEST_CASE("a tokenizer file that is no such file is refused by name") {
  const Folder folder("{}");
  const auto put = [&](const std::string& name, const std::string& content) {
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      std::filesystem::remove(entry);
    }
    std::ofstream(folder.path() / name, std::ios::binary) << content;
  };
  put("tokenizer.model", "IQ== 0\nIg== 1\n");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()),
                    Contains("tokenizer.model: not a SentencePiece model") && Contains("tiktoken"));
  put("tiktoken.model", "IQ== 0\nIg== 2\n");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Contains("line 2: expected the rank 1"));
  put("tiktoken.model", "IQ== 0\nI! 1\n");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Contains("line 2: expected 1 to 1024 bytes"));
  put("qwen.tiktoken", "IQ== 0\n");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Contains("byte 0 has no token"));
}

// transformers 4.57.1, LlamaTokenizer of the same folder: the same ids, and <user> alone is
// special.
TEST_CASE("added_tokens.json beside a tokenizer.model is read where no config lists the tokens") {
  const Folder folder("{}");
  std::filesystem::remove(folder.path() / "tokenizer.json");
  std::filesystem::copy_file(data / "sentencepiece_bpe" / "tokenizer.model",
                             folder.path() / "tokenizer.model");
  const auto put = [&](const std::string& name, const std::string& content) {
    std::ofstream(folder.path() / name) << content;
  };
  const int64_t size = 600;
  put("added_tokens.json", fmt::format(R"({{"<user>": {}, "<bot>": {}}})", size, size + 1));
  put("special_tokens_map.json", R"({"eos_token": {"content": "<user>"}})");
  const std::string text = "<user>two words<bot>";
  const auto older = Tokenizer::load(folder.path());
  const auto ids = older.encode(text);
  CHECK(ids == Ids{size, 261, 525, 513, 504, 525, 486, 522, 509, size + 1});
  CHECK(older.decode(ids) == text);
  CHECK(older.decode(ids, true) == "two words<bot>");

  put("tokenizer_config.json",
      fmt::format(R"({{"added_tokens_decoder": {{"{}": {{"content": "<user>", "special": true}},
                      "{}": {{"content": "<bot>"}}}}}})",
                  size, size + 1));
  put("added_tokens.json", "{}");
  CHECK(Tokenizer::load(folder.path()).encode(text) == ids);

  std::filesystem::remove(folder.path() / "tokenizer_config.json");
  put("added_tokens.json", R"({"<user>": 9999})");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()),
                    Contains("added_tokens.json: token '<user>' has id 9999"));
  put("added_tokens.json", R"({"<user>": "9"})");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Contains("added_tokens.json: ['<user>']"));
}

// Of `tokenizers` 0.22.2.
TEST_CASE("characters whose script has changed are cut off as they were in Unicode 9") {
  const auto tokenizer = Tokenizer::load(data / "unigram_bytes");
  CHECK(tokenizer.encode("a\u0589 1") == Ids{264, 215, 138, 308});
  CHECK(tokenizer.encode("a\u061c 1") == Ids{264, 217, 157, 308});
  CHECK(tokenizer.encode("\u0915\u0953 1") == Ids{225, 165, 150, 225, 166, 148, 257, 301});
  CHECK(tokenizer.encode("\u0301\u0954 1") == Ids{205, 130, 225, 166, 149, 257, 301});
}

TEST_CASE("long words and growing rules end in time") {
  // Quadratic merging would take minutes.
  const auto tokenizer = Tokenizer::load(data / "llama2");
  const std::string word(1 << 20, 'a');
  CHECK(tokenizer.decode(tokenizer.encode(word)) == word);
  CHECK(Tokenizer::load(data / "bert").encode(word).size() == 1);
  CHECK_FALSE(Tokenizer::load(data / "t5").encode(word).empty());

  auto json = read_json("llama2");
  const nlohmann::json rule = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", {rule, rule, rule, rule}}};
  const Folder folder(json.dump());
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()).encode("banana"), Contains("longer than"));
}
