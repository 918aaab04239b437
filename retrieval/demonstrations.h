// Demonstrations for in-context editing (retrieval/in_context.h): what a new fact changes and what
// it does not, shown with other facts. Of each eight, as published:
//   1 copy    another new fact, and the question that it was stated with
//   3 update  another new fact, and another question about it
//   4 retain  another new fact, and a question that it does not bear on
// The facts that are nearest to the question are shown, the nearest last, and behind them the new
// fact itself, copied. The reference takes the nearest by sentence embeddings, from a training set,
// with 32 demonstrations in a random order of kinds; here they are the suite's other facts, by BM25
// (retrieval/index.h), in a fixed order. A suite has no neighbours of a subject, so that `retain`
// asks about the next fact.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/data/suite.h"
#include "retrieval/index.h"

namespace resurface {

struct Demonstration {
  std::string kind;  ///< copy | update | retain
  std::string id;    ///< the item whose fact it shows
  std::string fact, question, answer;
};

/// The factual answers of a suite, as facts to show.
class Demonstrations {
 public:
  /// Held-out questions are neither shown nor indexed. Throws Error for an item without a seen
  /// question.
  explicit Demonstrations(Suite suite);

  /// Every fact in the language, the nearest to the question first; behind those that share no word
  /// with it the others, in the suite's order, with score 0. Throws Error where there is none.
  std::vector<Hit> rank(const std::string& question, const std::string& language) const;

  /// A fact as it is stated: its first seen question and the answer.
  std::string fact(const Hit& hit) const;
  /// `count` demonstrations of the facts behind the first of `ranked`, the nearest last, and a copy
  /// of the first itself. Where there are more demonstrations than facts, facts return with other
  /// questions. Throws Error for fewer than three facts: `retain` takes two besides the first.
  std::vector<Demonstration> about(std::span<const Hit> ranked, int64_t count) const;

 private:
  const Item& item(const Hit& hit) const;

  Suite suite_;
  std::map<std::pair<std::string, std::string>, size_t> items_;  // by id and language
  PassageIndex index_;
};

}  // namespace resurface
