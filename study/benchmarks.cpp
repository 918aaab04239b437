#include "study/benchmarks.h"

#include "core/run/error.h"
#include "core/run/files.h"
#include "eval/field/field.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Those of `parts` that the benchmark can use, and its own reference.
std::map<std::string, Artifact> compared_with(const FieldEntry& entry, const Workshop& workshop,
                                              const std::map<std::string, Artifact>& parts) {
  std::map<std::string, Artifact> found;
  const auto part = parts.find(field_benchmark(entry.benchmark).models);
  if (part != parts.end()) found.insert(*part);
  if (const auto path = entry.paths.find("reference"); path != entry.paths.end()) {
    found["reference"] = workshop.given({.checkpoint = path->second});
  }
  return found;
}

}  // namespace

void run_benchmarks(Workshop& workshop, std::vector<StudyModel>& models,
                    const std::vector<Artifact>& artifacts,
                    const std::map<std::string, Artifact>& parts) {
  const StudyConfig& config = workshop.config();
  const StudyInputs& inputs = workshop.inputs();
  std::map<std::string, Model> loaded;  // those compared with, by key
  for (size_t i = 0; i < models.size(); ++i) {
    std::optional<Model> model;
    const auto other = [&](const Artifact& artifact) -> const Model* {
      if (artifact.key == artifacts[i].key) return &*model;
      auto found = loaded.find(artifact.key);
      if (found == loaded.end()) {
        found = loaded.emplace(artifact.key, workshop.load(artifact)).first;
      }
      if (found->second.config().vocab_size != model->config().vocab_size) {
        fail("{}: has {} tokens, {} has {}; benchmarks compare models of one tokenizer",
             artifact.checkpoint.string(), found->second.config().vocab_size, models[i].name,
             model->config().vocab_size);
      }
      return &found->second;
    };
    for (size_t f = 0; f < config.field.size(); ++f) {
      const FieldEntry& entry = config.field[f];
      const auto compared = compared_with(entry, workshop, parts);
      std::vector<std::string> keys = {artifacts[i].key};
      for (const auto& [part, artifact] : compared) keys.push_back(part + " " + artifact.key);
      const StoredStage stored = workshop.stage(
          "field", fmt::format("field/{}/{}", models[i].name, entry.name), models[i].name,
          {{"benchmark", inputs.field_keys[f]}, {"compute", config.compute}}, keys,
          [&](const fs::path& folder, const StageKey&) {
            if (!model) model = workshop.load(artifacts[i]);
            FieldInputs asked{*model, inputs.tokenizer, inputs.chat};
            for (const auto& [part, artifact] : compared) {
              (part == "before"   ? asked.before
               : part == "oracle" ? asked.oracle
                                  : asked.reference) = other(artifact);
            }
            Json result;
            const StageCost cost = run_field(entry, asked, result);
            atomic_write(folder / "result.json", result.dump(1) + "\n");
            return cost;
          });
      // Keys in their order, and the settings of this run: files may have moved since.
      models[i].field.push_back(Json::parse(read_text(stored.folder / "result.json")));
      models[i].field.back()["settings"] = entry.resolved;
    }
  }
}

}  // namespace resurface
