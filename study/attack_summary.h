// What the attacks did, for summary.json: utility, curves, recovery, verdict (docs/output.md).
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "study/summary.h"

namespace resurface {

class AttackSummary {
 public:
  /// Refers to the models.
  AttackSummary(const std::vector<StudyModel>& models, RecoverySettings settings);

  /// Before any attack: exp(u(model) - u(implanted)), u the mean log-prob of a token over the
  /// retain set's held-out questions, all languages; paired by item. Undefined without an implanted
  /// model.
  const Interval& utility(const StudyModel& model) const { return utility_.at(model.name); }
  /// Below the bound of the settings; false where utility is undefined.
  bool damaged(const StudyModel& model) const;

  /// "curves" and "recovery".
  void add_recovery(nlohmann::ordered_json& summary) const;

  /// Every pair of removals, paired by line: which differences hold, and who wins.
  nlohmann::ordered_json verdict() const;

 private:
  AttackedModels attacked(const StudyModel& model) const;
  std::vector<Recovery> strict_recovery(const StudyModel& model,
                                        const std::vector<Recovery>& ordinary) const;

  const std::vector<StudyModel>& models_;
  RecoverySettings settings_;
  const StudyModel *implanted_, *oracle_;  ///< null: there is none
  std::map<std::string, Interval> utility_;
};

}  // namespace resurface
