// The attack's data ladder: what a run trains on and which lines it is tested on.
//
// The lines are split once, by item id and seed, into T (the attacker has them) and V (he has not).
//   a  T's own text, tested on T: how fast do lines come back that the attacker holds?
//   b  T's own text, tested on V: other lines of the same campaign. What comes back was still in
//      the weights (Deeb and Roger 2024).
//   c  text of the same syntax with other content (retain items), tested on T and V
//   d  benign text, tested on T and V in the language it is written in (all, when it is in all)
//   e  benign text of one language, tested on T and V in the others
// With folds every part of the lines is V in turn: a and b run in each fold; the others, which
// train on no line, once. A rung may name the language that it trains in ("b/en"); tests are in all
// languages all the same, so that "b/en" read in Chinese is recovery across languages. Rung e must
// name one. Training asks the seen phrasings; tests ask held-out ones.
#pragma once

#include <string>
#include <vector>

namespace resurface {

/// One (item, language) that is tested, with its examples as a range of `AttackData::test`.
struct TestLine {
  std::string item, language;
  bool held = false;  ///< in T
  size_t begin = 0, end = 0;
};

struct Rung {
  char letter = 'a';     ///< a .. e
  std::string language;  ///< trained in; empty: in all

  std::string name() const;
  /// Rungs of the same text share their runs.
  std::string text() const;
  bool tests(const TestLine& line) const;
  bool trains_on_lines() const { return letter == 'a' || letter == 'b'; }
};

/// Throws ConfigError for a name that is none of the above.
Rung parse_rung(const std::string& name);

/// The order of the ladder: by letter, then as given.
std::vector<Rung> parse_rungs(const std::vector<std::string>& names);

}  // namespace resurface
