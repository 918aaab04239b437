#include "retrieval/index.h"

#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "retrieval/terms.h"

namespace resurface {
namespace {

constexpr int64_t kApplication = 0x52734678;  // "RsFx": how SQLite tells whose file it is
constexpr int64_t kVersion = 1;

// `source` is a file that the passages came from. The terms are indexed and not kept.
constexpr const char* kSchema = R"(
  CREATE TABLE source(path TEXT NOT NULL, hash TEXT NOT NULL);
  CREATE TABLE content(hash TEXT NOT NULL);
  CREATE TABLE passage(id TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL,
                       language TEXT NOT NULL, source TEXT NOT NULL, url TEXT NOT NULL);
  CREATE VIRTUAL TABLE passage_terms USING fts5(
    terms, content='', tokenize='porter unicode61 remove_diacritics 2');
)";

Passage read_passage(const Statement& row) {
  return {.id = row.text(0),
          .title = row.text(1),
          .text = row.text(2),
          .language = row.text(3),
          .source = row.text(4),
          .url = row.text(5)};
}

std::map<std::string, int64_t> count_languages(const std::vector<Passage>& passages) {
  std::map<std::string, int64_t> counts;
  for (const Passage& passage : passages) ++counts[passage.language];
  return counts;
}

int64_t pragma(const Database& database, const std::string& name) {
  Statement statement(database, "PRAGMA " + name);
  return statement.step() ? statement.integer(0) : 0;
}

}  // namespace

PassageIndex PassageIndex::build(const std::vector<std::filesystem::path>& files) {
  PassageIndex index = of(load_passages(files));
  for (const auto& file : files) {
    Statement(index.database_, "INSERT INTO source VALUES (?1, ?2)")
        .bind(1, std::filesystem::absolute(file).lexically_normal().string())
        .bind(2, hash_file(file))
        .step();
  }
  return index;
}

PassageIndex PassageIndex::of(const std::vector<Passage>& passages) {
  PassageIndex index(Database::in_memory());
  Database& database = index.database_;
  index.hash_ = hash_passages(passages);
  index.counts_ = count_languages(passages);

  database.execute(
      fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kApplication, kVersion));
  database.execute(kSchema);
  database.execute("BEGIN");
  Statement(database, "INSERT INTO content VALUES (?1)").bind(1, index.hash_).step();
  {
    Statement passage(database, "INSERT INTO passage VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    Statement terms(database,
                    "INSERT INTO passage_terms(rowid, terms) VALUES (last_insert_rowid(), ?1)");
    for (const Passage& p : passages) {
      passage.bind(1, p.id).bind(2, p.title).bind(3, p.text);
      passage.bind(4, p.language).bind(5, p.source).bind(6, p.url).step();
      passage.reset();
      terms.bind(1, fmt::format("{}", fmt::join(index_terms(p.title + "\n" + p.text), " "))).step();
      terms.reset();
    }
  }
  database.execute("INSERT INTO passage_terms(passage_terms) VALUES ('optimize')");
  database.execute("COMMIT");
  return index;
}

void PassageIndex::save(const std::filesystem::path& path) const {
  atomic_write(path, database_.bytes());
}

PassageIndex PassageIndex::open(const std::filesystem::path& path) {
  PassageIndex index(Database::open(path));
  const std::string name = path.string();
  if (pragma(index.database_, "application_id") != kApplication) {
    fail("{}: is no index of passages; make one with `resurface index PASSAGES -o {}`", name, name);
  }
  if (const auto version = pragma(index.database_, "user_version"); version != kVersion) {
    fail("{}: is an index of version {}, this program reads {}; build it again", name, version,
         kVersion);
  }
  Statement content(index.database_, "SELECT hash FROM content");
  index.hash_ = content.step() ? content.text(0) : "";
  const auto passages = index.passages();
  if (hash_passages(passages) != index.hash_) {
    fail("{}: its passages are not those it was built from; build it again", name);
  }
  index.counts_ = count_languages(passages);
  index.check_sources(path);
  return index;
}

std::vector<Passage> PassageIndex::passages() const {
  std::vector<Passage> all;
  Statement rows(database_,
                 "SELECT id, title, text, language, source, url FROM passage ORDER BY rowid");
  while (rows.step()) all.push_back(read_passage(rows));
  return all;
}

void PassageIndex::check_sources(const std::filesystem::path& path) const {
  Statement sources(database_, "SELECT path, hash FROM source");
  while (sources.step()) {
    const std::filesystem::path file = sources.text(0);
    if (std::filesystem::exists(file) && hash_file(file) != sources.text(1)) {
      fail("{}: is stale: {} has changed since it was built; build it again", path.string(),
           file.string());
    }
  }
}

std::vector<Hit> PassageIndex::search(const std::string& query, int64_t k,
                                      const std::string& language) const {
  const auto terms = query_terms(query);
  if (terms.empty()) fail("there is no word to look for in '{}'", query);
  Statement rows(database_, R"(
    SELECT id, title, text, language, source, url, bm25(passage_terms) AS score
    FROM passage_terms JOIN passage ON passage.rowid = passage_terms.rowid
    WHERE passage_terms MATCH ?1 AND (?2 = '' OR language = ?2)
    ORDER BY score, passage.rowid LIMIT ?3)");
  // Terms are letters and digits alone, so quotes are enough.
  rows.bind(1, fmt::format("\"{}\"", fmt::join(terms, "\" OR \"")));
  rows.bind(2, language).bind(3, k);
  std::vector<Hit> hits;
  while (rows.step()) hits.push_back({read_passage(rows), -rows.number(6)});
  return hits;
}

}  // namespace resurface
