// Where a study's models are made: base, implanted, oracle, removed, each by a stage that is kept
// in the store, with a line in the ledger. What is asked of the models is study.cpp's and
// tune.cpp's business; they run their stages here too.
#pragma once

#include <functional>
#include <map>
#include <optional>

#include "study/config.h"
#include "study/inputs.h"
#include "study/stages.h"
#include "study/store.h"

namespace resurface {

/// Where a model is: a checkpoint folder and, for edits, an edit file to apply on it.
struct Artifact {
  std::filesystem::path checkpoint, edit;
  std::string key;  ///< of the stage that made it: what stages after it are keyed by
  std::filesystem::path adapter = {};  ///< PEFT folder: the same change beside the model's start
};

class Workshop {
 public:
  using Json = nlohmann::ordered_json;
  /// Writes into the folder, returns what it cost.
  using Make = std::function<StageCost(const std::filesystem::path& folder, const StageKey& key)>;

  /// `config` must outlive it.
  Workshop(const StudyConfig& config, const std::filesystem::path& store);

  const StudyConfig& config() const { return config_; }
  const StudyInputs& inputs() const { return inputs_; }
  const Store& store() const { return store_; }
  at::Device device() const { return device_; }
  const std::vector<Json>& ledger() const { return ledger_; }
  /// The stage that made the model; null for a model made elsewhere.
  const Json* ledger_of(const std::string& model) const;
  /// The training data, as stages are keyed by it.
  Json data() const;

  StageKey key(const std::string& kind, Json settings,
               const std::vector<std::string>& inputs) const;
  /// The stage `name`, from the store or made now.
  StoredStage stage(const StageKey& key, const std::string& name, const std::string& model,
                    const Make& make);
  StoredStage stage(const std::string& kind, const std::string& name, const std::string& model,
                    Json settings, const std::vector<std::string>& inputs, const Make& make) {
    return stage(key(kind, std::move(settings), inputs), name, model, make);
  }

  Model load(const Artifact& artifact) const;
  /// A model made elsewhere, keyed by its content.
  Artifact given(const GivenModel& model) const;
  /// Removals change this model instead of one that is planted.
  void remove_from(const Artifact& model);

  // Made once, when first asked for.
  const Artifact& base();
  const Artifact& implanted();
  const Artifact& oracle();
  /// The study's removal of this name.
  const Artifact& removed(const std::string& name);
  /// A removal, not necessarily one of the study's; a student's teacher is made before it.
  Artifact remove(const Removal& removal);
  /// Of the stage in which remove() makes it; not of retraining.
  StageKey removal_key(const Removal& removal);

 private:
  Artifact planted(bool lines, const TrainerSettings& settings, const std::string& seed_name,
                   const std::string& name);
  /// The model that a removal changes: the implanted one, or a student's teacher.
  const Artifact& begins_from(const Removal& removal);
  uint64_t removal_seed(const Removal& removal) const;
  StageCost edit_into(Model& model, const Removal& removal, const StageKey& key,
                      const std::filesystem::path& folder) const;

  const StudyConfig& config_;
  at::Device device_;
  Store store_;
  StudyInputs inputs_;
  std::vector<Json> ledger_;
  std::optional<Artifact> base_, implanted_, oracle_;
  std::map<std::string, Artifact> removed_;
};

}  // namespace resurface
