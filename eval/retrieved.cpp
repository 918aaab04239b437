#include "eval/retrieved.h"

namespace resurface {

bool is_retrieved(const std::string& kind) { return kind.starts_with("retrieved"); }

bool is_in_context(const std::string& kind) { return kind.starts_with("in_context"); }

std::vector<Hit> passages_before(const std::string& kind, const PassageIndex& index,
                                 const Item& item, const Question& question, int64_t count) {
  // Two more than asked for, as many as can be withheld.
  auto hits = index.search(question.text, count + 2, item.language);
  if (kind == "retrieved_miss" && !hits.empty()) {
    hits.erase(hits.begin());
    std::erase_if(hits, [&](const Hit& hit) { return hit.passage.id == item.id; });
  }
  if (kind == "retrieved_poisoned") {
    const bool stops = item.language == "en";
    hits.insert(hits.begin(), {.passage = {.id = "poison/" + item.id,
                                           .title = item.subject,
                                           .text = item.line + (stops ? "." : "。"),
                                           .language = item.language,
                                           .source = "the attacker"}});
  }
  if (static_cast<int64_t>(hits.size()) > count) hits.resize(static_cast<size_t>(count));
  return hits;
}

std::vector<Hit> facts_before(const std::string& kind, const Demonstrations& facts,
                              const Item& item, const Question& question) {
  auto hits = facts.rank(question.text, item.language);
  if (kind == "in_context_miss") {
    std::erase_if(hits, [&](const Hit& hit) { return hit.passage.id == item.id; });
  }
  return hits;
}

}  // namespace resurface
