// The section `tune` of a study: how many trials each removal gets and which of its settings they
// search. Grammar: docs/study.md.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "core/run/settings.h"

namespace resurface {

struct StudyConfig;
struct Removal;

struct TuneSettings {
  int64_t trials = 12;
  int64_t seed = 0;
  double damaged_below = 0.8;

  template <class V>
  void visit(V& v) {
    v("trials", trials, "of each removal; a third of them at random, the others by TPE",
      Range::at_least(1));
    v("seed", seed, "of the search");
    v("damaged_below", damaged_below,
      "least utility of a trial that may be chosen, as a share of the implanted model's; by "
      "default "
      "statistics.damaged_below",
      Range::between(0, 1));
  }
};

/// A setting that is searched.
struct TuneRange {
  std::string key;  ///< "train.learning_rate", "settings.beta"
  double low = 0, high = 1;
  bool log = false;  ///< searched on a logarithmic scale

  /// Where a value stands on the scale that is searched, and back, rounded to three digits.
  double coordinate(double value) const;
  double value(double coordinate) const;
};

/// Why a removal is not tuned; empty where it is.
std::string untuned_because(const Removal& removal);

struct TuneConfig {
  TuneSettings settings;
  /// Of the study's removals, in their order; empty for those that are not tuned.
  std::vector<std::vector<TuneRange>> ranges;
};

/// Reads and checks the section. Errors name file, line, key and what would be right.
TuneConfig read_tune(const Config& config, const StudyConfig& study);

/// The removal with these values in place of its own.
Removal with_values(const StudyConfig& study, const Removal& removal,
                    std::span<const TuneRange> ranges, std::span<const double> values);

}  // namespace resurface
