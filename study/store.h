// Finished stages of studies, each in a folder named by what determines its result. A killed study
// resumes, two studies share a planted model, and two processes do not compute the same stage.
//
//   <root>/<kind>-<hash>/           what the stage wrote, and stage.json; appears whole or not at
//   all <root>/partial/<kind>-<hash>/   what a running stage keeps to go on from after a kill
//   <root>/locks/<kind>-<hash>      held (flock) by the process that runs the stage
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace resurface {

struct StageKey {
  std::string kind;  ///< "plant"
  std::string hash;  ///< xxh3-128 of everything below, hex
  int version = 1;
  nlohmann::json settings;          ///< resolved, defaults included
  std::vector<std::string> inputs;  ///< content hashes, or keys of the stages before

  std::string name() const { return fmt::format("{}-{}", kind, hash); }
};

/// The same for any order of the settings' keys. Raise `version` when code changes what the stage
/// writes.
StageKey stage_key(const std::string& kind, const nlohmann::ordered_json& settings,
                   const std::vector<std::string>& inputs, int version);

struct StoredStage {
  std::filesystem::path folder;
  std::string key;              ///< StageKey::hash
  nlohmann::ordered_json cost;  ///< as the run that made it reported
  bool reused = false;
};

class Store {
 public:
  explicit Store(std::filesystem::path root = std::filesystem::path("runs") / "store");

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path folder(const StageKey& key) const { return root_ / key.name(); }
  bool done(const StageKey& key) const;

  /// The finished stage, made by `make(folder)` when it is not in the store. `make` writes into
  /// `folder` and returns the cost; when it throws, nothing but its partial files stays. Waits
  /// while another process makes the same stage. `label` names the stage in messages.
  StoredStage get(
      const StageKey& key, const std::string& label,
      const std::function<nlohmann::ordered_json(const std::filesystem::path& folder)>& make) const;

  /// Removes a stage, finished or not, and what it keeps to go on from; it may as well not be
  /// there.
  void drop(const StageKey& key) const;

  /// A path that outlives a killed `make` and goes away once the stage is finished. Its folder
  /// exists.
  std::filesystem::path partial(const StageKey& key, const std::string& name) const;

 private:
  std::filesystem::path root_;
};

}  // namespace resurface
