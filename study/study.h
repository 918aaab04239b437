// A YAML file becomes stages, stages become results, results become a report.
//
//   base -> plant (implanted, oracle) -> remove (each method) -> measure, field -> attack,
//   ways back -> results.jsonl, field.jsonl, ledger.jsonl, summary.json, report.html
//
// A stage is keyed by a hash of its inputs, its settings and its code's version, and is skipped
// when its key is in the store: a killed study resumes, two studies share a planted model. A config
// that names `models` made elsewhere begins at "measure".
#pragma once

#include <filesystem>

#include "study/config.h"

namespace resurface {

struct StudyOptions {
  std::filesystem::path out;    ///< run folder; empty: runs/<name>
  std::filesystem::path store;  ///< stage store; empty: runs/store
  bool attacks = true;          ///< false: measure only
};

/// Runs what is not done yet and writes the run folder. Prints progress to stderr and the table to
/// stdout.
void run_study(const StudyConfig& config, const StudyOptions& options);

}  // namespace resurface
