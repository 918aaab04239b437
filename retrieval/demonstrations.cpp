#include "retrieval/demonstrations.h"

#include <array>

#include "core/run/error.h"

namespace resurface {
namespace {

// From the nearest fact outwards.
constexpr std::array<const char*, 8> kKinds = {"retain", "update", "retain", "copy",
                                               "update", "retain", "update", "retain"};

std::vector<std::string> seen_questions(const Item& item) {
  std::vector<std::string> seen;
  for (const Question& question : item.questions) {
    if (!question.held_out) seen.push_back(question.text);
  }
  return seen;
}

PassageIndex index_of(const Suite& suite) {
  std::vector<Passage> passages;
  for (const Item& item : suite.items) {
    const auto seen = seen_questions(item);
    if (seen.empty()) {
      fail(
          "suite '{}', item '{}' ({}): no demonstration can be made of it, all its questions are "
          "held out",
          suite.name, item.id, item.language);
    }
    passages.push_back({.id = item.id,
                        .title = seen[0],
                        .text = fmt::format("{}\n{}", fmt::join(seen, "\n"), item.factual),
                        .language = item.language,
                        .source = item.source});
  }
  return PassageIndex::of(passages);
}

bool is_chinese(const std::string& language) { return language.starts_with("zh"); }

std::string stated(const Item& item, const std::string& question) {
  return question + (is_chinese(item.language) ? "" : " ") + item.factual;
}

}  // namespace

Demonstrations::Demonstrations(Suite suite) : suite_(std::move(suite)), index_(index_of(suite_)) {
  for (size_t i = 0; i < suite_.items.size(); ++i) {
    items_[{suite_.items[i].id, suite_.items[i].language}] = i;
  }
}

const Item& Demonstrations::item(const Hit& hit) const {
  return suite_.items[items_.at({hit.passage.id, hit.passage.language})];
}

std::vector<Hit> Demonstrations::rank(const std::string& question,
                                      const std::string& language) const {
  auto ranked = index_.search(question, std::ssize(suite_.items), language);
  for (const Item& other : suite_.items) {
    const auto same = [&](const Hit& hit) { return hit.passage.id == other.id; };
    if (other.language != language || std::any_of(ranked.begin(), ranked.end(), same)) continue;
    ranked.push_back({.passage = {.id = other.id,
                                  .title = seen_questions(other)[0],
                                  .text = other.factual,
                                  .language = other.language,
                                  .source = other.source}});
  }
  if (ranked.empty()) fail("suite '{}' has no facts in '{}'", suite_.name, language);
  return ranked;
}

std::string Demonstrations::fact(const Hit& hit) const {
  return stated(item(hit), seen_questions(item(hit))[0]);
}

std::vector<Demonstration> Demonstrations::about(std::span<const Hit> ranked, int64_t count) const {
  if (ranked.size() < 3) {
    fail("suite '{}': in-context editing takes three facts of a language at least, got {}",
         suite_.name, ranked.size());
  }
  const auto others = ranked.subspan(1);
  std::vector<Demonstration> all;
  for (size_t n = 0; n < static_cast<size_t>(count); ++n) {
    const Item& shown = item(others[n % others.size()]);
    const auto seen = seen_questions(shown);
    const size_t turn = n / others.size();
    const std::string& own = seen[turn % seen.size()];
    Demonstration one{.kind = kKinds[n % kKinds.size()],
                      .id = shown.id,
                      .fact = stated(shown, own),
                      .question = own,
                      .answer = shown.factual};
    if (one.kind == "update") one.question = seen[(turn + 1) % seen.size()];
    if (one.kind == "retain") {
      const Item& other = item(others[(n + 1) % others.size()]);
      const auto asked = seen_questions(other);
      one.question = asked[turn % asked.size()];
      one.answer = other.factual;
    }
    all.push_back(std::move(one));
  }
  std::reverse(all.begin(), all.end());
  const Item& edited = item(ranked[0]);
  all.push_back({.kind = "copy",
                 .id = edited.id,
                 .fact = fact(ranked[0]),
                 .question = seen_questions(edited)[0],
                 .answer = edited.factual});
  return all;
}

}  // namespace resurface
