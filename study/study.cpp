#include "study/study.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/device.h"
#include "core/run/environment.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/interrupt.h"
#include "core/run/seeds.h"
#include "study/report.h"
#include "study/stages.h"
#include "study/store.h"
#include "study/summary.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Raised whenever a change of code changes what a stage writes.
constexpr int kVersion = 1;

/// Where a model is: a checkpoint folder and, for edits, an edit file to apply on it.
struct Artifact {
  fs::path checkpoint, edit;
  std::string key;  ///< of the stage that made it: what stages after it are keyed by
};

class Study {
 public:
  Study(const StudyConfig& config, const StudyOptions& options)
      : config_(config),
        device_(parse_device(config.device)),
        out_(options.out.empty() ? fs::path("runs") / config.name : options.out),
        store_(options.store.empty() ? fs::path("runs") / "store" : options.store),
        inputs_(load_inputs(config)) {}

  void run() {
    const Artifact base = this->base();
    const Artifact implanted = planted(base, true, config_.plant, "implanted", "plant/implanted");
    const Artifact oracle = planted(base, false, config_.plant, "oracle", "plant/oracle");
    add("implanted", "implanted", "implanted", "implanted", implanted);
    add("oracle", "oracle", "oracle", "oracle", oracle);
    for (const Removal& removal : config_.remove) {
      add(removal.name, "removed", removal.method, removal.label, remove(removal, base, implanted),
          removal.languages);
    }
    // Attacks come last: they take longest, and what they attack is known to be worth it by then.
    for (size_t i = 0; i < models_.size(); ++i) attack_model(models_[i], artifacts_[i]);
    finish();
  }

 private:
  /// What every stage's result depends on.
  Json common() const {
    return {{"device", device_.str()},
            {"threads", at::get_num_threads()},
            {"start", inputs_.start_hash}};
  }

  Model load(const Artifact& artifact) const {
    Model model = Model::load(artifact.checkpoint, device_);
    if (!artifact.edit.empty()) apply_edit(model, read_edit_file(artifact.edit));
    model.set_compute(parse_compute_dtype(config_.compute, device_));
    return model;
  }

  /// The stage `name`, from the store or computed now by `make(folder)`, which gives its cost.
  template <class Make>
  StoredStage stage(const std::string& kind, const std::string& name, const std::string& model,
                    Json settings, std::vector<std::string> keys, Make&& make) {
    check_interrupted();
    settings["common"] = common();
    const StageKey key = stage_key(kind, settings, keys, kVersion);
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

  Artifact base() {
    if (!config_.model.checkpoint.empty()) {
      return {.checkpoint = config_.model.checkpoint, .edit = {}, .key = inputs_.start_hash};
    }
    const StoredStage stored = stage(
        "base", "base", "base", {{"seed", config_.seed}}, {},
        [&](const fs::path& folder, const StageKey&) {
          const Model model = Model::random(
              inputs_.model, derive_seed(static_cast<uint64_t>(config_.seed), "weights"));
          model.save(folder / "model");
          for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
            const fs::path file = inputs_.start / name;
            if (fs::exists(file)) {
              fs::copy_file(file, folder / "model" / name, fs::copy_options::overwrite_existing);
            }
          }
          return StageCost{};
        });
    return {.checkpoint = stored.folder / "model", .edit = {}, .key = stored.key};
  }

  Artifact planted(const Artifact& base, bool lines, const TrainerSettings& settings,
                   const std::string& seed_name, const std::string& name) {
    // The implanted model and the oracle share their seed: the same batches in the same order. A
    // retrained model is a second oracle with batches of its own.
    const uint64_t seed = derive_seed(static_cast<uint64_t>(config_.seed),
                                      seed_name == "oracle" ? "implanted" : seed_name);
    const StoredStage stored = stage("plant", name, seed_name,
                                     {{"train", to_json(settings)},
                                      {"seed", seed},
                                      {"lines", lines},
                                      {"data", data()},
                                      {"compute", config_.compute}},
                                     {base.key}, [&](const fs::path& folder, const StageKey& key) {
                                       Model model = load(base);
                                       const StageCost cost =
                                           plant(model, config_, inputs_, lines, settings, seed,
                                                 name, store_.partial(key, "state"));
                                       model.save(folder / "model", base.checkpoint);
                                       return cost;
                                     });
    return {.checkpoint = stored.folder / "model", .edit = {}, .key = stored.key};
  }

  Artifact remove(const Removal& removal, const Artifact& base, const Artifact& implanted) {
    const std::string name = "remove/" + removal.name;
    if (removal.method == "retrain") {
      return planted(base, false, removal.train, removal.name, name);
    }
    const uint64_t seed = derive_seed(static_cast<uint64_t>(config_.seed), name);
    const bool edits = is_edit(removal);
    Json settings = {{"method", removal.method},
                     {"settings", removal.resolved},
                     {"seed", seed},
                     {"languages", removal.languages},
                     {"data", data()},
                     {"compute", config_.compute}};
    if (!edits) settings["train"] = to_json(removal.train);
    const StoredStage stored =
        stage("remove", name, removal.name, settings, {implanted.key},
              [&](const fs::path& folder, const StageKey& key) {
                Model model = load(implanted);
                if (edits) {
                  // The mathematics of edits is fp32 and fp64 throughout.
                  model.set_compute(at::kFloat);
                  EditFile edit;
                  const StageCost cost = remove_by_editing(model, removal, inputs_,
                                                           store_.root() / "statistics", edit);
                  write_edit_file(folder / "edit.safetensors", edit);
                  return cost;
                }
                const StageCost cost =
                    remove_by_training(model, removal, inputs_, seed, store_.partial(key, "state"));
                model.save(folder / "model", implanted.checkpoint);
                return cost;
              });
    if (edits) {
      return {.checkpoint = implanted.checkpoint,
              .edit = stored.folder / "edit.safetensors",
              .key = stored.key};
    }
    return {.checkpoint = stored.folder / "model", .edit = {}, .key = stored.key};
  }

  Json data() const {
    Json data = inputs_.data_hash;
    data["languages"] = config_.data.languages;
    data["items"] = config_.data.items;
    return data;
  }

  /// Measures a model and keeps its rows.
  void add(const std::string& name, const std::string& kind, const std::string& method,
           const std::string& label, const Artifact& artifact,
           const std::vector<std::string>& treated = {}) {
    StudyModel entry{
        .name = name, .kind = kind, .method = method, .label = label, .treated = treated};
    const Json& made = ledger_of(name);
    entry.cost = Cost(nlohmann::json(made));
    entry.examples = made.value("examples", int64_t{0});

    const StoredStage measured = stage(
        "measure", "measure/" + name, name,
        {{"measure", to_json(config_.measure)}, {"data", data()}, {"compute", config_.compute}},
        {artifact.key}, [&](const fs::path& folder, const StageKey&) {
          Model model = load(artifact);
          return measure_into(model, folder / "rows.jsonl");
        });
    for (const auto& row : read_json_lines(measured.folder / "rows.jsonl")) {
      entry.before.push_back(row.get<Measurement>());
    }
    models_.push_back(std::move(entry));
    artifacts_.push_back(artifact);
  }

  void attack_model(StudyModel& entry, const Artifact& artifact) {
    const std::string& name = entry.name;
    const StoredStage attacked =
        stage("attack", "attack/" + name, name,
              {{"attack", to_json(config_.attack)}, {"data", data()}, {"compute", config_.compute}},
              {artifact.key}, [&](const fs::path& folder, const StageKey& stage_key) {
                return attack_into(artifact, name, folder / "rows.jsonl",
                                   store_.partial(stage_key, "jsonl"));
              });
    for (const auto& row : read_json_lines(attacked.folder / "rows.jsonl")) {
      entry.attacked.push_back(row.get<AttackRow>());
      entry.attacked.back().model = name;
    }
  }

  StageCost measure_into(Model& model, const fs::path& path) {
    model.reset_flops();
    const Timer timer;
    reset_peak_memory(device_);
    std::string text;
    int64_t tokens = 0, examples = 0;
    for (const Suite* suite : {&inputs_.forget, &inputs_.retain}) {
      MeasureSettings settings;
      settings.generate_questions =
          suite == &inputs_.forget ? config_.measure.generate_questions : 0;
      settings.generate_tokens = config_.measure.generate_tokens;
      const auto probes = make_measure_probes(*suite, inputs_.tokenizer, inputs_.chat, settings,
                                              inputs_.model.context);
      for (const Measurement& row : measure(model, probes)) {
        text += nlohmann::json(row).dump() + "\n";
        tokens += row.score.tokens;
        ++examples;
      }
    }
    atomic_write(path, text);
    return {.cost = {.flops = model.flops().total(),
                     .tokens = tokens,
                     .seconds = timer.seconds(),
                     .peak_bytes = peak_memory(device_)},
            .examples = examples};
  }

  StageCost attack_into(const Artifact& artifact, const std::string& name, const fs::path& path,
                        const fs::path& partial) {
    if (!attack_data_) {
      attack_data_ =
          make_attack_data(inputs_.forget, inputs_.retain, inputs_.benign, inputs_.tokenizer,
                           inputs_.chat, config_.attack, inputs_.model.context);
    }
    Model model = load(artifact);
    model.reset_flops();
    const Timer timer;
    reset_peak_memory(device_);
    // Finished runs are kept as they come, so that a killed attack goes on where it was.
    std::vector<AttackRow> done;
    if (fs::exists(partial)) {
      for (const auto& row : read_json_lines(partial, TornLine::drop)) {
        done.push_back(row.get<AttackRow>());
        done.back().model = name;
      }
      done = finished_rows(std::move(done));
    }
    JsonLines lines(partial);
    const auto rows = attack(model, name, *attack_data_, config_.attack, done,
                             {.on_run =
                                  [&](const std::vector<AttackRow>& finished) {
                                    for (const AttackRow& row : finished)
                                      lines.append(nlohmann::json(row));
                                  },
                              .label = "attack/" + name});
    std::string text;
    Cost cost{.seconds = timer.seconds(), .peak_bytes = peak_memory(device_)};
    int64_t examples = 0;
    for (const AttackRow& row : rows) {
      text += nlohmann::json(row).dump() + "\n";
      if (row.final) {
        cost.flops += row.flops;
        cost.tokens += row.tokens;
        examples += row.examples;
      }
    }
    atomic_write(path, text);
    fs::remove(partial);
    return {.cost = cost, .examples = examples};
  }

  const Json& ledger_of(const std::string& model) const {
    for (const Json& line : ledger_) {
      if (line["model"] == model) return line;  // the stage that made it comes first
    }
    fail("no stage made the model '{}'", model);
  }

  void finish() {
    fs::create_directories(out_);
    const auto lines = [](const std::vector<Json>& rows) {
      std::string text;
      for (const Json& row : rows) text += row.dump() + "\n";
      return text;
    };
    const Split split = split_lines(inputs_.forget.ids(), config_.attack.train_share,
                                    static_cast<uint64_t>(config_.attack.split_seed));
    atomic_write(out_ / "config.resolved.yaml", yaml_text(config_.resolved()));
    Json environment = resurface::environment(static_cast<uint64_t>(config_.seed), device_);
    environment["start"] = inputs_.start_hash;
    environment["data"] = inputs_.data_hash;
    atomic_write(out_ / "environment.json", environment.dump(2) + "\n");
    atomic_write(out_ / "results.jsonl", lines(result_rows(models_)));
    atomic_write(out_ / "ledger.jsonl", lines(ledger_));
    const Json summary = summarize(config_, models_, split);
    atomic_write(out_ / "summary.json", summary.dump(1) + "\n");
    fmt::print("{}", summary_table(summary));
    write_report(out_);
    fmt::print(stderr, "report: {}\n", (out_ / "report.html").string());
  }

  const StudyConfig& config_;
  at::Device device_;
  fs::path out_;
  Store store_;
  StudyInputs inputs_;
  std::optional<AttackData> attack_data_;
  std::vector<StudyModel> models_;
  std::vector<Artifact> artifacts_;  ///< of the models, in their order
  std::vector<Json> ledger_;
};

}  // namespace

void run_study(const StudyConfig& config, const StudyOptions& options) {
  Study(config, options).run();
}

}  // namespace resurface
