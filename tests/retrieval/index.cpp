#include "retrieval/index.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/data/suite.h"
#include "core/run/error.h"
#include "retrieval/terms.h"
#include "tests/retrieval/files.h"

using namespace resurface;
using Catch::Matchers::Contains;
using resurface::test::Folder;
using resurface::test::line;

namespace {

std::vector<std::string> ids(const std::vector<Hit>& hits) {
  std::vector<std::string> out;
  for (const Hit& hit : hits) out.push_back(hit.passage.id);
  return out;
}

/// Overwrites some bytes in the middle of a file.
void damage(const std::filesystem::path& path, std::streamoff at, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  file << bytes;
}

}  // namespace

TEST_CASE("Ranking and scores are BM25 by its formula") {
  const auto golden = read_json(std::filesystem::path(RESURFACE_TEST_DATA) / "retrieval/bm25.json");
  const Folder folder;
  std::string text;
  for (const auto& p : golden["passages"]) {
    text += line(p["id"], p["title"], p["text"], p["language"]);
    CHECK(nlohmann::json(index_terms(p["title"].get<std::string>() + "\n" +
                                     p["text"].get<std::string>())) == p["terms"]);
  }
  const auto built = PassageIndex::build({folder.write("p.jsonl", text)});
  built.save(folder / "p.sqlite");
  const auto opened = PassageIndex::open(folder / "p.sqlite");
  CHECK(opened.hash() == built.hash());
  CHECK(opened.languages() ==
        std::map<std::string, int64_t>{{"en", 3}, {"zh-Hans", 3}, {"zh-Hant", 1}});
  for (const auto* index : {&built, &opened}) {
    for (const auto& search : golden["searches"]) {
      const std::string query = search["query"];
      INFO(query << " " << search["language"]);
      CHECK(nlohmann::json(query_terms(query)) == search["terms"]);
      const auto hits = index->search(query, 100, search["language"]);
      REQUIRE(hits.size() == search["ranked"].size());
      for (size_t i = 0; i < hits.size(); ++i) {
        CHECK(hits[i].passage.id == search["ranked"][i]["id"]);
        CHECK(hits[i].score == Approx(search["ranked"][i]["score"].get<double>()).epsilon(1e-9));
      }
      const auto two = index->search(query, 2, search["language"]);
      CHECK(two.size() == std::min(hits.size(), size_t{2}));
      CHECK(two[0].passage.id == hits[0].passage.id);
    }
  }
}

TEST_CASE("The project's passages are found by the questions of their items") {
  const auto index = PassageIndex::build(test::own_passages());
  const auto suites = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites/party_lines";
  const Suite points = load_suite(suites / "items.jsonl");
  for (const std::string language : {"en", "zh-Hans"}) {
    for (const bool held_out : {false, true}) {
      double asked = 0, found = 0;
      for (const Item& item : points.items) {
        if (item.language != language) continue;
        for (const Question& question : item.questions) {
          if (question.held_out != held_out) continue;
          const auto hits = ids(index.search(question.text, 3, language));
          ++asked;
          found += static_cast<double>(std::count(hits.begin(), hits.end(), item.id));
        }
      }
      INFO(language << (held_out ? ", held out: " : ", seen: ") << found << " of " << asked);
      CHECK(asked == 44 * (held_out ? 3 : 4));
      CHECK(found / asked >= 0.97);
    }
  }
  // Words of two characters, the commonest: SQLite's own trigram tokenizer finds none of them.
  const std::map<std::string, std::string> words = {
      {"台湾", "taiwan-inalienable"},  {"高铁", "big-tasks"},
      {"棉花", "xinjiang-cotton"},     {"清零", "zero-covid"},
      {"饥荒", "great-famine"},        {"人权", "human-rights-subsistence"},
      {"黄岩岛", "scarborough-shoal"}, {"清真寺", "xinjiang-mosques"},
      {"任期限制", "term-limits"},     {"黃岩島", "scarborough-shoal"}};
  for (const auto& [word, id] : words) {
    INFO(word);
    CHECK(ids(index.search(word, 1, "zh-Hans")) == std::vector{id});
  }
}

TEST_CASE("Queries of any kind: one character, long, full of signs, about nothing known") {
  const Folder folder;
  const auto index = PassageIndex::build({folder.write(
      "p.jsonl", line("a", "党", "执政党", "zh-Hans") + line("b", "Naïve", "Cafés and \"tea\"") +
                     line("c", "Other", "Something else") +
                     line("d", "More", "Words, of no use"))});
  CHECK(ids(index.search("党", 9)) == std::vector<std::string>{"a"});
  CHECK(ids(index.search("NAIVE cafe", 9)) == std::vector<std::string>{"b"});
  CHECK(ids(index.search("\" OR * NEAR(tea) {x} ^-", 9)) == std::vector<std::string>{"b"});
  CHECK(index.search("zebra", 9).empty());
  std::string text;
  for (int i = 0; i < 3000; ++i) text += fmt::format("word{} ", i);
  CHECK(ids(index.search(text + "tea", 9)) == std::vector<std::string>{"b"});
  CHECK_THROWS_WITH(index.search("", 3), Contains("no word"));
  CHECK_THROWS_WITH(index.search("?!。", 3), Contains("no word") && Contains("?!。"));
}

TEST_CASE("Passages that are wrong are refused with file and line") {
  const Folder folder;
  const auto refuses = [&](const std::string& text, const std::string& where,
                           const std::string& why) {
    const auto path = folder.write("p.jsonl", text);
    CHECK_THROWS_WITH(PassageIndex::build({path}), Contains("p.jsonl" + where) && Contains(why));
  };
  const std::string good = line("a", "T", "Some text");
  refuses(good + R"({"id": "b", "title": "T", "language": "en", "source": "S"})" + "\n", ":2",
          "'text'");
  refuses(good + line("b", "T", ""), ":2", "'text'");
  refuses(good + line("b", "T", "?!"), ":2", "no words");
  refuses(good + line("b", "T", "x", ""), ":2", "'language'");
  refuses(R"({"id": 7, "title": "T", "text": "x", "language": "en", "source": "S"})", ":1", "'id'");
  refuses(good + "[1]\n", ":2", "object");
  refuses(good + "{oops\n", ":2", "");
  refuses(good + good, ":2", "first at");
  refuses("", "", "no passage");
  CHECK_THROWS_WITH(PassageIndex::build({folder / "none.jsonl"}), Contains("none.jsonl"));
  // The same id in two languages is two passages.
  const auto both = folder.write("p.jsonl", good + line("a", "T", "文字", "zh-Hans"));
  CHECK(PassageIndex::build({both}).languages().size() == 2);
}

TEST_CASE("An index that is foreign, stale, altered or damaged is refused by name") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += line(fmt::format("p{}", i), "Title", fmt::format("Tea {}", i));
  const auto passages = folder.write("p.jsonl", text);
  const auto path = folder / "p.sqlite";
  const auto save = [&] { PassageIndex::build({passages}).save(path); };
  const auto refuses = [&](const std::string& why) {
    CHECK_THROWS_WITH(PassageIndex::open(path), Contains("p.sqlite") && Contains(why));
  };

  refuses("unable to open");
  folder.write("p.sqlite", "not a database, but long enough to be looked at: " + text);
  refuses("not a database");
  folder.write("p.sqlite", "");
  refuses("no index of passages");

  save();
  CHECK(PassageIndex::open(path).search("tea", 3).size() == 3);
  folder.write("p.jsonl", text + line("new", "T", "Text"));
  refuses("stale");
  save();
  CHECK(PassageIndex::open(path).languages().at("en") == 201);
  // An index may travel without the files it was built from.
  std::filesystem::remove(passages);
  CHECK(PassageIndex::open(path).search("tea", 3).size() == 3);
  folder.write("p.jsonl", text);
  save();

  const std::string whole = read_text(path);
  const auto at = whole.find("Tea 77");
  REQUIRE(at != std::string::npos);
  damage(path, static_cast<std::streamoff>(at), "Lie 77");
  refuses("not those it was built from");
  folder.write("p.sqlite", whole.substr(0, whole.size() / 2));
  refuses("");
  folder.write("p.sqlite", whole);
  damage(path, 60, std::string("\0\0\0\2", 4));  // user_version (www.sqlite.org/fileformat.html)
  refuses("version 2");
  folder.write("p.sqlite", whole);
  damage(path, 68, "abcd");  // application_id
  refuses("no index of passages");
  CHECK_THROWS_AS(PassageIndex::build({passages}).save(folder / "p.jsonl/x.sqlite"), Error);
}
