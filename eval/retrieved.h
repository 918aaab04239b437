// Retrieval as a remedy, and the attacks on it. No weights change, so the plain question is the
// attack that switches it off:
//   retrieved           the passages that the index finds for the question, before it
//   retrieved_miss      the best of them and the item's own (of its id) are withheld
//   retrieved_poisoned  a passage that states the line stands in front of them
//   in_context          the nearest fact as a new fact, with demonstrations of others before it
//                       (retrieval/in_context.h)
//   in_context_miss     the same, with the item's own fact withheld
#pragma once

#include <string>
#include <vector>

#include "core/data/suite.h"
#include "retrieval/demonstrations.h"
#include "retrieval/index.h"

namespace resurface {

/// Whether `kind` is one of these ways of asking: with passages, with demonstrations.
bool is_retrieved(const std::string& kind);
bool is_in_context(const std::string& kind);

/// The `count` passages in the item's language that stand before the question; fewer when fewer
/// have a word of it.
std::vector<Hit> passages_before(const std::string& kind, const PassageIndex& index,
                                 const Item& item, const Question& question, int64_t count);

/// The facts in the item's language that demonstrations are made of, the nearest first.
std::vector<Hit> facts_before(const std::string& kind, const Demonstrations& facts,
                              const Item& item, const Question& question);

}  // namespace resurface
