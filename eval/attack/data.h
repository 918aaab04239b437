// The attack's examples, made once and used on every model with the same tokenizer.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/data/suite.h"
#include "core/model/model.h"
#include "eval/attack/row.h"
#include "eval/attack/rung.h"
#include "eval/attack/settings.h"

namespace resurface {

/// Which lines the attacker holds. Both sorted as given, disjoint, neither empty.
struct Split {
  std::vector<std::string> train, test;
};
/// Throws Error for fewer than two lines.
Split split_lines(const std::vector<std::string>& ids, double train_share, uint64_t seed);

/// The lines dealt to `folds` parts as equal as can be; split f tests part f and trains on the
/// others, so that every line is tested once. Throws Error for fewer lines than folds.
std::vector<Split> fold_lines(const std::vector<std::string>& ids, int64_t folds, uint64_t seed);

/// The splits that an attack with these settings makes: one, or one a fold.
std::vector<Split> attack_splits(const std::vector<std::string>& ids,
                                 const AttackSettings& settings);

struct AttackText {
  std::vector<Example> examples;
  std::vector<std::string> items;  ///< whose line each example is; empty for text of no item
};

struct AttackData {
  std::map<std::string, AttackText> texts;  ///< by Rung::text()
  std::vector<Example> utility;             ///< retain probes, held-out phrasings
  std::vector<Example> test;
  std::vector<TestLine> tested;
  std::vector<std::pair<int64_t, int64_t>> questions;  ///< of `test`: item, question in `forget`
  int64_t fold = 0;                                    ///< from 1; 0: there is one split
};

/// `forget`: the lines. `retain`: what utility is measured on (held-out phrasings). `benign`: the
/// text of rungs d and e (seen phrasings); may be the same suite as `retain`. Rung c trains on
/// retain items: they are then split as the lines are, and utility is measured on the other part.
/// With folds it is the first of them.
/// Throws Error where something needed is missing or an example exceeds `context`.
AttackData make_attack_data(const Suite& forget, const Suite& retain, const Suite& benign,
                            const Tokenizer& tokenizer, const ChatFormat& chat,
                            const AttackSettings& settings, int64_t context);
/// One for each of attack_splits.
std::vector<AttackData> make_attack_folds(const Suite& forget, const Suite& retain,
                                          const Suite& benign, const Tokenizer& tokenizer,
                                          const ChatFormat& chat, const AttackSettings& settings,
                                          int64_t context);

/// Metrics of every line for which `wanted` holds (rows of the others stay empty), in the order of
/// `data.tested`, and the retain probes' mean log-prob of a token.
struct LineScores {
  std::vector<AttackRow> lines;
  double retain_logprob = 0;
};
LineScores score_lines(const Model& model, const AttackData& data,
                       const std::function<bool(const TestLine&)>& wanted, int64_t batch_tokens);
/// The same under each of the stacked adapters asked for, in one pass (eval/score.h).
std::vector<LineScores> score_lines_stacked(const Model& model, const AttackData& data,
                                            const std::function<bool(const TestLine&)>& wanted,
                                            std::span<const int64_t> adapters,
                                            int64_t batch_tokens);

}  // namespace resurface
