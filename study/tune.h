// A fair search for the removals' settings: each gets the same number of trials, and each trial is
// judged before any attack, on what the removal itself may see.
//
//   trial: the removal with the values tried -> extraction strength of the lines on seen phrasings,
//          utility on the retain set's seen questions, as a share of the implanted model's
//   chosen: lowest extraction strength of the trials whose utility is at least damaged_below, equal
//          ones by utility; the highest utility where there is no such trial
//
// A trial is a stage of the store, and so is the removal in it: a killed search goes on, and the
// chosen removal is there for the study. Removals of beaten trials are dropped from the store.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/run/resources.h"
#include "core/search/tpe.h"
#include "study/config.h"

namespace resurface {

struct TuneTrial {
  std::vector<double> values;      ///< one a range
  double extraction_strength = 1;  ///< of the lines, on seen phrasings
  double utility = 0;              ///< as a share of the implanted model's
  std::string failed;              ///< what the removal stopped with; empty: it did not
  Cost cost;                       ///< of removing and measuring

  /// Whether it keeps at least this much utility.
  bool within(double damaged_below) const;
};

/// Whether `a` is chosen before `b`; a failed trial never is.
bool better(const TuneTrial& a, const TuneTrial& b, double damaged_below);

/// The chosen trial; of equal ones the first. `trials` must not be empty.
size_t choose(std::span<const TuneTrial> trials, double damaged_below);

/// The trials as the search sees them: coordinates, and as objective how many trials are better.
std::vector<Trial> ranked(std::span<const TuneTrial> trials, std::span<const TuneRange> ranges,
                          double damaged_below);

struct TuneOptions {
  std::filesystem::path out;    ///< empty: runs/<name>-tune
  std::filesystem::path store;  ///< empty: runs/store
};

/// Writes OUT/tuned.yaml and OUT/trials.jsonl, prints progress to stderr and the table to stdout.
/// Throws ConfigError for a study without the section `tune`.
void tune_study(const StudyConfig& config, const TuneOptions& options);

}  // namespace resurface
