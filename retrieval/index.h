// An index over passages: SQLite's FTS5 with our terms (retrieval/terms.h), ranked by BM25.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "retrieval/passages.h"
#include "retrieval/sqlite.h"

namespace resurface {

struct Hit {
  Passage passage;
  double score = 0;  ///< BM25, the greater the better
};

class PassageIndex {
 public:
  /// Reads files of passages (load_passages) and indexes them in memory.
  static PassageIndex build(const std::vector<std::filesystem::path>& files);
  /// Of passages that came from no file.
  static PassageIndex of(const std::vector<Passage>& passages);
  /// Writes the index as one SQLite file, whole or not at all.
  void save(const std::filesystem::path& path) const;
  /// Opens such a file. Throws Error naming it when it is no index, of another version, damaged,
  /// has other passages than its index was made of, or is stale: a file of passages that it was
  /// built from is still where it was, with other content.
  static PassageIndex open(const std::filesystem::path& path);

  /// The k best passages, best first; of one language, or of all when it is empty. BM25 (Robertson
  /// et al. 1994) with SQLite's constants k1 = 1.2, b = 0.75, over title and text together; terms
  /// in more than half of the passages count for nothing. English words are matched by their stems
  /// (Porter). Throws Error for a query without words.
  std::vector<Hit> search(const std::string& query, int64_t k,
                          const std::string& language = "") const;

  const std::string& hash() const { return hash_; }                            ///< of the passages
  const std::map<std::string, int64_t>& languages() const { return counts_; }  ///< passages of each

 private:
  explicit PassageIndex(Database database) : database_(std::move(database)) {}
  std::vector<Passage> passages() const;
  void check_sources(const std::filesystem::path& path) const;

  Database database_;
  std::string hash_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace resurface
