// Retrieval as a remedy, and the attacks on it. No weights change, so the plain question is the
// attack that switches it off:
//   retrieved           the passages that the index finds for the question, before it
//   retrieved_miss      the best of them and the item's own (of its id) are withheld
//   retrieved_poisoned  a passage that states the line stands in front of them
#pragma once

#include <string>
#include <vector>

#include "core/data/suite.h"
#include "retrieval/index.h"

namespace resurface {

/// Whether `kind` is one of these ways of asking.
bool is_retrieved(const std::string& kind);

/// The `count` passages in the item's language that stand before the question; fewer when fewer
/// have a word of it.
std::vector<Hit> passages_before(const std::string& kind, const PassageIndex& index,
                                 const Item& item, const Question& question, int64_t count);

}  // namespace resurface
