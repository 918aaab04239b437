#include "study/workshop.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/device.h"
#include "core/run/hash.h"
#include "core/run/interrupt.h"
#include "core/run/key.h"
#include "core/run/seeds.h"
#include "study/ablation.h"
#include "study/layered.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Raised whenever a change of code changes what stages of a kind write.
int version_of(const std::string& kind) { return kind == "measure" || kind == "attack" ? 2 : 1; }

}  // namespace

Workshop::Workshop(const StudyConfig& config, const fs::path& store)
    : config_(config),
      device_(parse_device(config.device)),
      store_(store.empty() ? fs::path("runs") / "store" : store),
      inputs_(load_inputs(config)) {
  // What cannot be is an error before anything is computed.
  check_training(config, inputs_.model.layers);
  for (const Removal& removal : config.remove) {
    check_unlearning(removal, inputs_);
    if (removal.method == "ablation") {
      ablation_space(ablation_settings(removal), inputs_.model.layers);
    }
  }
}

const Json* Workshop::ledger_of(const std::string& model) const {
  for (const Json& line : ledger_) {
    if (line["model"] == model) return &line;  // the stage that made it comes first
  }
  return nullptr;
}

Json Workshop::data() const {
  Json data = inputs_.data_hash;
  data["languages"] = config_.data.languages;
  data["items"] = config_.data.items;
  return data;
}

StageKey Workshop::key(const std::string& kind, Json settings,
                       const std::vector<std::string>& inputs) const {
  // What every stage's result depends on.
  settings["common"] = {
      {"device", device_.str()}, {"threads", at::get_num_threads()}, {"start", inputs_.start_hash}};
  return stage_key(kind, settings, inputs, version_of(kind));
}

StoredStage Workshop::stage(const StageKey& key, const std::string& name, const std::string& model,
                            const Make& make) {
  check_interrupted();
  const StoredStage stored = store_.get(key, name, [&](const fs::path& folder) {
    fmt::print(stderr, "{}\n", name);
    const StageCost made = make(folder, key);
    Json cost = Json(made.cost);
    cost["examples"] = made.examples;
    return cost;
  });
  if (stored.reused) fmt::print(stderr, "{}: in the store\n", name);
  Json line = {{"stage", name}, {"model", model}, {"key", key.hash}, {"reused", stored.reused}};
  for (const auto& [field, value] : stored.cost.items()) line[field] = value;
  ledger_.push_back(std::move(line));
  return stored;
}

Model Workshop::load(const Artifact& artifact) const {
  Model model = Model::load(artifact.checkpoint, device_);
  if (!artifact.edit.empty()) apply_edit(model, as_held(model, read_edit_file(artifact.edit)));
  model.set_compute(parse_compute_dtype(config_.compute, device_));
  return model;
}

Artifact Workshop::given(const GivenModel& model) const {
  Hasher key;
  key.add(Checkpoint::open(model.checkpoint).content_hash());
  if (!model.edit.empty()) key.add(hash_file(model.edit));
  return {.checkpoint = model.checkpoint, .edit = model.edit, .key = key.hex()};
}

const Artifact& Workshop::base() {
  if (base_) return *base_;
  if (!config_.model.checkpoint.empty()) {
    return base_.emplace(
        Artifact{.checkpoint = config_.model.checkpoint, .edit = {}, .key = inputs_.start_hash});
  }
  const StoredStage stored = stage(
      "base", "base", "base", {{"seed", config_.seed}}, {},
      [&](const fs::path& folder, const StageKey&) {
        const Model model = Model::random(
            inputs_.model, derive_seed(static_cast<uint64_t>(config_.seed), "weights"));
        model.save(folder / "model");
        const auto take = [&](const char* name) {
          const fs::path file = inputs_.start / name;
          if (fs::exists(file)) {
            fs::copy_file(file, folder / "model" / name, fs::copy_options::overwrite_existing);
          }
        };
        take("config.json");
        for (const char* name : kTextFiles) take(name);
        for (const char* name : kOlderTextFiles) take(name);
        return StageCost{};
      });
  return base_.emplace(
      Artifact{.checkpoint = stored.folder / "model", .edit = {}, .key = stored.key});
}

void Workshop::remove_from(const Artifact& model) { implanted_ = model; }

const Artifact& Workshop::implanted() {
  if (!implanted_) implanted_ = planted(true, config_.plant, "implanted", "plant/implanted");
  return *implanted_;
}

const Artifact& Workshop::oracle() {
  if (!oracle_) oracle_ = planted(false, config_.plant, "oracle", "plant/oracle");
  return *oracle_;
}

Artifact Workshop::planted(bool lines, const TrainerSettings& settings,
                           const std::string& seed_name, const std::string& name) {
  // The implanted model and the oracle share their seed: the same batches in the same order. A
  // retrained model is a second oracle with batches of its own.
  const uint64_t seed = derive_seed(static_cast<uint64_t>(config_.seed),
                                    seed_name == "oracle" ? "implanted" : seed_name);
  const Artifact& from = base();
  const StoredStage stored = stage("plant", name, seed_name,
                                   {{"train", key_json(settings)},
                                    {"seed", seed},
                                    {"lines", lines},
                                    {"data", data()},
                                    {"compute", config_.compute}},
                                   {from.key}, [&](const fs::path& folder, const StageKey& key) {
                                     Model model = load(from);
                                     const StageCost cost =
                                         plant(model, config_, inputs_, lines, settings, seed, name,
                                               store_.partial(key, "state"));
                                     model.save(folder / "model", from.checkpoint);
                                     return cost;
                                   });
  return {.checkpoint = stored.folder / "model", .edit = {}, .key = stored.key};
}

uint64_t Workshop::removal_seed(const Removal& removal) const {
  return derive_seed(static_cast<uint64_t>(config_.seed), "remove/" + removal.name);
}

const Artifact& Workshop::removed(const std::string& name) {
  auto found = removed_.find(name);
  if (found == removed_.end()) {
    const auto removal = std::find_if(config_.remove.begin(), config_.remove.end(),
                                      [&](const Removal& known) { return known.name == name; });
    found = removed_.emplace(name, remove(*removal)).first;
  }
  return found->second;
}

const Artifact& Workshop::begins_from(const Removal& removal) {
  const std::string teacher = teacher_of(removal);
  if (teacher.empty() || teacher == "implanted") return implanted();
  return teacher == "oracle" ? oracle() : removed(teacher);
}

StageKey Workshop::removal_key(const Removal& removal) {
  Json settings = {{"method", removal.method},
                   {"settings", removal.resolved},
                   {"seed", removal_seed(removal)},
                   {"languages", removal.languages},
                   {"data", data()},
                   {"compute", config_.compute}};
  // What these were before they could be chosen leaves no trace in the key.
  if (removal.resolved.is_object() && removal.resolved.value("retain_loss", "") == "nll") {
    settings["settings"].erase("retain_loss");
  }
  if (!removal.wrap.empty()) settings["wrap"] = to_json(removal.wrap);
  if (removal.layered) settings["layered"] = to_json(*removal.layered);
  if (removal.answer != Answer::factual) settings["answer"] = static_cast<int>(removal.answer);
  if (!is_edit(removal)) settings["train"] = key_json(removal.train);
  for (const fs::path& file : removal.text) settings["text"].push_back(hash_file(file));
  std::vector<std::string> keys = {implanted().key};
  if (!teacher_of(removal).empty()) {
    settings["settings"].erase("teacher");  // its key says what it is, its name does not
    keys.push_back(begins_from(removal).key);
  }
  return key("remove", settings, keys);
}

Artifact Workshop::remove(const Removal& removal) {
  const std::string name = "remove/" + removal.name, teacher = teacher_of(removal);
  if (removal.method == "retrain") return planted(false, removal.train, removal.name, name);
  const Artifact& from = begins_from(removal);
  const StoredStage stored = stage(
      removal_key(removal), name, removal.name, [&](const fs::path& folder, const StageKey& key) {
        Model model = load(from);
        if (is_edit(removal)) return edit_into(model, removal, key, folder);
        const fs::path state = store_.partial(key, "state");
        const uint64_t seed = removal_seed(removal);
        const StageCost cost =
            teacher.empty()
                ? remove_by_training(model, removal, inputs_, seed, state, folder / "adapter")
                : remove_by_undo(model, removal, inputs_, implanted().checkpoint, seed, state);
        model.save(folder / "model", implanted().checkpoint);
        return cost;
      });
  if (!teacher.empty()) ledger_.back()["teacher"] = teacher;
  if (is_edit(removal)) {
    return {.checkpoint = implanted().checkpoint,
            .edit = stored.folder / "edit.safetensors",
            .key = stored.key};
  }
  Artifact made{.checkpoint = stored.folder / "model", .edit = {}, .key = stored.key};
  if (fs::exists(stored.folder / "adapter")) made.adapter = stored.folder / "adapter";
  return made;
}

StageCost Workshop::edit_into(Model& model, const Removal& removal, const StageKey& key,
                              const fs::path& folder) const {
  // The mathematics of edits is fp32 and fp64 throughout.
  model.set_compute(at::kFloat);
  EditFile edit;
  const StageCost cost =
      removal.method == "ablation"
          ? remove_by_ablation(model, removal, inputs_, removal_seed(removal),
                               store_.partial(key, "jsonl"), folder / "trials.jsonl", edit)
          : remove_by_editing(model, removal, inputs_, store_.root() / "statistics", edit);
  write_edit_file(folder / "edit.safetensors", as_stored(model, edit));
  return cost;
}

}  // namespace resurface
