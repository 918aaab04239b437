#include "retrieval/passages.h"

#include <map>

#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "retrieval/terms.h"

namespace resurface {
namespace {

std::string field(const nlohmann::ordered_json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || !found->is_string() || found->get<std::string>().empty()) {
    fail(
        "'{}' is missing or no text; a passage is {{\"id\", \"title\", \"text\", \"language\", "
        "\"source\", \"url\" (optional)}}",
        key);
  }
  return found->get<std::string>();
}

}  // namespace

std::vector<Passage> load_passages(const std::vector<std::filesystem::path>& files) {
  std::vector<Passage> passages;
  std::map<std::pair<std::string, std::string>, std::string> places;
  for (const auto& file : files) {
    const size_t before = passages.size();
    for_each_json_line(file, [&](const nlohmann::ordered_json& row, int64_t line) {
      if (!row.is_object()) fail("expected a JSON object, got {}", row.dump());
      Passage passage{.id = field(row, "id"),
                      .title = field(row, "title"),
                      .text = field(row, "text"),
                      .language = field(row, "language"),
                      .source = field(row, "source")};
      if (row.contains("url")) passage.url = field(row, "url");
      if (index_terms(passage.text).empty()) {
        fail("'text' has no words to look for: {}", passage.text);
      }
      const auto [place, added] = places.try_emplace({passage.id, passage.language},
                                                     fmt::format("{}:{}", file.string(), line));
      if (!added) {
        fail("passage '{}' ({}) is there twice; first at {}", passage.id, passage.language,
             place->second);
      }
      passages.push_back(std::move(passage));
    });
    if (passages.size() == before) fail("{}: there is no passage in it", file.string());
  }
  return passages;
}

std::string hash_passages(const std::vector<Passage>& passages) {
  Hasher hasher;
  for (const Passage& p : passages) {
    for (const auto* text : {&p.id, &p.title, &p.text, &p.language, &p.source, &p.url}) {
      hasher.add(fmt::format("{}:", text->size())).add(*text);
    }
  }
  return hasher.hex();
}

}  // namespace resurface
