#include "eval/attack/data.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "core/run/error.h"
#include "eval/score.h"

namespace resurface {
namespace {

using Ids = std::set<std::string>;

Ids set_of(const std::vector<std::string>& ids) { return {ids.begin(), ids.end()}; }

/// The first `count` of `ids` (0: all) that `from` has.
Ids first_of(const std::vector<std::string>& ids, const Ids& from, int64_t count) {
  Ids some;
  for (const auto& id : ids) {
    if (from.contains(id) && (count == 0 || std::ssize(some) < count)) some.insert(id);
  }
  return some;
}

using Wanted = std::function<bool(const TestLine&)>;

/// The test examples of the lines wanted, then the utility's.
std::vector<Example> asked(const AttackData& data, const Wanted& wanted) {
  std::vector<Example> all;
  for (const TestLine& line : data.tested) {
    if (!wanted(line)) continue;
    for (size_t e = line.begin; e < line.end; ++e) all.push_back(data.test[e]);
  }
  all.insert(all.end(), data.utility.begin(), data.utility.end());
  return all;
}

/// From the scores of `asked`.
LineScores line_scores(const AttackData& data, const Wanted& wanted,
                       const std::vector<Score>& scores) {
  LineScores found;
  found.lines.resize(data.tested.size());
  size_t at = 0;
  for (size_t i = 0; i < data.tested.size(); ++i) {
    const TestLine& line = data.tested[i];
    if (!wanted(line)) continue;
    AttackRow& row = found.lines[i];
    const auto questions = static_cast<double>(line.end - line.begin);
    for (size_t e = line.begin; e < line.end; ++e, ++at) {
      const auto& s = scores[at];
      row.logprob_per_token += s.logprob / static_cast<double>(s.tokens) / questions;
      row.exact_memorization += s.exact_memorization / questions;
      row.extraction_strength += s.extraction_strength / questions;
      row.greedy_match += (s.greedy_match ? 1 : 0) / questions;
    }
  }
  double logprob = 0, tokens = 0;
  for (; at < scores.size(); ++at) {
    logprob += scores[at].logprob;
    tokens += static_cast<double>(scores[at].tokens);
  }
  found.retain_logprob = logprob / tokens;
  return found;
}

/// 0 .. count - 1 in an order drawn by the seed.
std::vector<size_t> shuffled(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937_64 random(seed);
  for (size_t i = count - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  return order;
}

}  // namespace

Split split_lines(const std::vector<std::string>& ids, double train_share, uint64_t seed) {
  if (ids.size() < 2) fail("attack: expected at least 2 lines to split, got {}", ids.size());
  const auto order = shuffled(ids.size(), seed);
  const auto held = std::clamp<size_t>(
      static_cast<size_t>(std::lround(train_share * static_cast<double>(ids.size()))), 1,
      ids.size() - 1);
  const std::set<size_t> train(order.begin(), order.begin() + static_cast<ptrdiff_t>(held));
  Split split;
  for (size_t i = 0; i < ids.size(); ++i)
    (train.contains(i) ? split.train : split.test).push_back(ids[i]);
  return split;
}

std::vector<Split> fold_lines(const std::vector<std::string>& ids, int64_t folds, uint64_t seed) {
  const auto count = static_cast<size_t>(folds);
  if (ids.size() < std::max<size_t>(count, 2))
    fail("attack: expected at least {} lines for {} folds, got {}", std::max<size_t>(count, 2),
         folds, ids.size());
  const auto order = shuffled(ids.size(), seed);
  std::vector<size_t> part(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) part[order[i]] = i % count;
  std::vector<Split> splits(count);
  for (size_t f = 0; f < count; ++f)
    for (size_t i = 0; i < ids.size(); ++i)
      (part[i] == f ? splits[f].test : splits[f].train).push_back(ids[i]);
  return splits;
}

std::vector<Split> attack_splits(const std::vector<std::string>& ids,
                                 const AttackSettings& settings) {
  const auto seed = static_cast<uint64_t>(settings.split_seed);
  if (settings.folds > 1) return fold_lines(ids, settings.folds, seed);
  return {split_lines(ids, settings.train_share, seed)};
}

namespace {

AttackData make_fold(const Suite& forget, const Suite& retain, const Suite& benign,
                     const Tokenizer& tokenizer, const ChatFormat& chat,
                     const AttackSettings& settings, int64_t context, size_t fold) {
  const auto rungs = parse_rungs(settings.rungs);
  const Ids held = set_of(attack_splits(forget.ids(), settings)[fold].train);
  Ids syntax, utility = set_of(retain.ids());
  if (std::any_of(rungs.begin(), rungs.end(), [](const Rung& r) { return r.letter == 'c'; })) {
    // Rungs that train on no line run once, in the first fold.
    const auto split = attack_splits(retain.ids(), settings).front();
    syntax = set_of(split.train);
    utility = set_of(split.test);
  }
  utility = first_of(retain.ids(), utility, settings.utility_items);

  // Seen phrasings of the items in `ids` (all when null), in one language or all.
  const auto seen = [&](const Suite& suite, const Ids* ids, const std::string& language) {
    AttackText text;
    for (auto& probe : make_probes(suite, tokenizer, chat, Answer::line, false, context)) {
      const auto& item = suite.items.at(static_cast<size_t>(probe.item));
      if (ids != nullptr && !ids->contains(item.id)) continue;
      if (!language.empty() && item.language != language) continue;
      text.examples.push_back(std::move(probe.example));
      text.items.push_back(item.id);
    }
    return text;
  };
  // The first `test_questions` held-out questions of each item in each language.
  const auto held_out = [&](const Suite& suite, const Ids* ids) {
    std::vector<Probe> some;
    std::map<int64_t, int64_t> taken;
    for (auto& probe : make_probes(suite, tokenizer, chat, Answer::line, true, context)) {
      const auto& item = suite.items.at(static_cast<size_t>(probe.item));
      if (ids != nullptr && !ids->contains(item.id)) continue;
      if (settings.test_questions == 0 || taken[probe.item]++ < settings.test_questions)
        some.push_back(std::move(probe));
    }
    std::stable_sort(some.begin(), some.end(),
                     [](const Probe& x, const Probe& y) { return x.item < y.item; });
    return some;
  };

  AttackData data;
  if (settings.folds > 1) data.fold = static_cast<int64_t>(fold) + 1;
  for (const Rung& rung : rungs) {
    if (data.texts.contains(rung.text())) continue;
    data.texts[rung.text()] = rung.trains_on_lines() ? seen(forget, &held, rung.language)
                              : rung.letter == 'c'   ? seen(retain, &syntax, rung.language)
                                                     : seen(benign, nullptr, rung.language);
  }
  for (auto& probe : held_out(retain, &utility)) data.utility.push_back(std::move(probe.example));
  for (auto& probe : held_out(forget, nullptr)) {
    const auto& item = forget.items.at(static_cast<size_t>(probe.item));
    if (data.tested.empty() || data.tested.back().item != item.id ||
        data.tested.back().language != item.language)
      data.tested.push_back({item.id, item.language, held.contains(item.id), data.test.size(), 0});
    data.questions.emplace_back(probe.item, probe.question);
    data.test.push_back(std::move(probe.example));
    data.tested.back().end = data.test.size();
  }
  return data;
}

}  // namespace

AttackData make_attack_data(const Suite& forget, const Suite& retain, const Suite& benign,
                            const Tokenizer& tokenizer, const ChatFormat& chat,
                            const AttackSettings& settings, int64_t context) {
  return make_fold(forget, retain, benign, tokenizer, chat, settings, context, 0);
}

std::vector<AttackData> make_attack_folds(const Suite& forget, const Suite& retain,
                                          const Suite& benign, const Tokenizer& tokenizer,
                                          const ChatFormat& chat, const AttackSettings& settings,
                                          int64_t context) {
  std::vector<AttackData> folds;
  for (size_t f = 0; f < static_cast<size_t>(settings.folds); ++f)
    folds.push_back(make_fold(forget, retain, benign, tokenizer, chat, settings, context, f));
  return folds;
}

LineScores score_lines(const Model& model, const AttackData& data, const Wanted& wanted,
                       int64_t batch_tokens) {
  return line_scores(data, wanted, score(model, asked(data, wanted), batch_tokens));
}

std::vector<LineScores> score_lines_stacked(const Model& model, const AttackData& data,
                                            const Wanted& wanted, std::span<const int64_t> adapters,
                                            int64_t batch_tokens) {
  std::vector<LineScores> all;
  for (const auto& scores : score_stacked(model, asked(data, wanted), adapters, batch_tokens))
    all.push_back(line_scores(data, wanted, scores));
  return all;
}

}  // namespace resurface
