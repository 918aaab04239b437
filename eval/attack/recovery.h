// What an attack brought back, from its rows (eval/relearn.h), with intervals clustered by line:
// both languages, all phrasings and all seeds of an item are drawn together.
//
// For a metric m, averaged over the tested (item, language)s:
//   R, I, O        of the removed, the implanted and the oracle model before any attack
//   R(s), O(s)     after s attack steps: for each seed the worst case (largest m) over the runs
//                  within the utility bound, then the mean over seeds. A seed with no such run
//                  counts as unattacked.
//   recovered      (R(s) - R) / (I - R)             undefined where I - R is tiny (`smallest_drop`)
//   injection      O(s) - O                         what the attack itself teaches
//   recovered_net  (R(s) - R - injection) / (I - R)
//   oracle_gap     R(s) - O(s)                      0 for perfect removal
//   peak           max of R(s) over the measured s >= 1; its gap is to the oracle's own, max O(s)
//   auc            mean of R(s) over log2(1 + s), trapezoids from step 0 to the last
//   half, most     the first measured step (its examples, tokens, FLOPs) with recovered >= .5
//                  (half), >= .9 (most)
// With folds a run is its folds together: lines are pooled over them, so that each is tested once
// (rung b), and the run is within the bound at a step where all of its folds are.
// Worst case and peak are chosen anew in each resample, so intervals hold the attacker's choice
// too. A maximum of noisy means is a little high, in the estimate and in its interval.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/run/settings.h"
#include "eval/attack/row.h"
#include "eval/bootstrap.h"

namespace resurface {

/// What the attacker pays: arithmetic at a stated price.
struct PriceSettings {
  double dollars_per_hour = 3;
  double peak_flops = 989e12;
  double efficiency = 0.3;

  template <class V>
  void visit(V& v) {
    v("dollars_per_hour", dollars_per_hour, "of one GPU", Range::above(0));
    v("peak_flops", peak_flops, "of that GPU, a second (H100, bf16, dense)", Range::above(0));
    v("efficiency", efficiency, "share of the peak that training reaches", Range::between(0, 1));
  }
  double dollars(double flops) const {
    return flops / (peak_flops * efficiency) / 3600 * dollars_per_hour;
  }
};

struct RecoverySettings {
  std::vector<std::string> metrics = {"extraction_strength", "exact_memorization",
                                      "logprob_per_token", "greedy_match"};
  double smallest_drop = 0.05;
  double damaged_below = 0.8;
  PriceSettings price;
  BootstrapSettings bootstrap;

  template <class V>
  void visit(V& v) {
    v("metrics", metrics,
      "extraction_strength, exact_memorization, logprob_per_token, greedy_match");
    v("smallest_drop", smallest_drop,
      "recovered fractions are undefined where implanted - removed is below this", Range::above(0));
    v("damaged_below", damaged_below,
      "least utility as a share of the implanted model's: a model below it is damaged, an attack "
      "run below it is left out of the stricter worst case",
      Range::between(0, 1));
    v("price", price, "of the attacker's arithmetic");
    v("bootstrap", bootstrap, "intervals");
  }
};

/// Rows of the attack on each model. Without an oracle its figures are undefined. The implanted
/// model's rows may be those of step 0 alone.
struct AttackedModels {
  std::span<const AttackRow> removed, implanted, oracle;  // either of the last two may be empty
};

struct RecoveryPoint {
  int64_t step = 0;
  double utility = 1, examples = 0, tokens = 0,
         flops = 0;  ///< mean over seeds of the worst-case runs
  Interval attacked, recovered, recovered_net;
  Interval implanted_attacked, oracle_attacked;
  Interval oracle_gap, injection;
};

/// The most that the attack brings out at any of its steps.
struct Peak {
  int64_t step = 0;  ///< of the removed model's peak: the first with the highest mean
  Interval attacked, recovered;
  Interval oracle_attacked;  ///< the oracle's own peak, maybe at another step
  Interval oracle_gap;       ///< between the two
};

/// First measured effort at which a recovered fraction is reached; infinite: never, NaN: undefined.
struct Effort {
  Interval steps, examples, tokens, flops;
};

struct Recovery {
  std::string model, rung;
  std::string reach;  ///< full, lora, or any: the worst case over both
  std::string metric;
  std::string language;  ///< or "all"
  int64_t lines = 0;     ///< clusters
  Interval removed, implanted, oracle;
  Interval auc, recovered_auc, oracle_gap_auc;
  Effort half, most;
  Peak peak;
  std::vector<RecoveryPoint> points;  ///< by step, 0 first
  std::string reason;                 ///< why figures are undefined; empty: they are not
};
/// Fields by their names; `peak` is an object, `half` and `most` are objects of `steps`,
/// `examples`, `tokens`, `flops`, and have "reached": false where the fraction is never reached.
void to_json(nlohmann::json& json, const Recovery& recovery);

/// One for each rung, reach (and "any" of several), metric and language (and "all" of several).
/// Throws Error when a model has no row of step 0 for a tested line.
std::vector<Recovery> recovery(const AttackedModels& models, const RecoverySettings& settings);

/// The same rows under the stricter bound: a measurement stays within utility only if its utility
/// as a share of the implanted model's, `row.utility * start`, is at least `bound` too. `start`:
/// the attacked model's utility before the attack, as that share.
std::vector<AttackRow> within_bound(std::span<const AttackRow> rows, double start, double bound);

/// A minus B between two removal methods on the same lines (paired: both are resampled together).
struct RecoveryDifference {
  std::string a, b, rung, reach, metric, language;
  Interval removed, auc, recovered_auc, oracle_gap_auc;
  Interval attacked, recovered;  ///< at the last step
  Interval peak;                 ///< of the attacked metric: each model's over its own steps
};
void to_json(nlohmann::json& json, const RecoveryDifference& difference);

/// A model that left the attack earlier counts as unattacked at the steps it lacks. `pooled`: only
/// of all languages together and of the reach that the attacker would choose, where there are
/// several. Throws Error when the lines differ.
std::vector<RecoveryDifference> compare(const AttackedModels& a, const AttackedModels& b,
                                        const RecoverySettings& settings, bool pooled = false);

}  // namespace resurface
