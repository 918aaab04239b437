#include "study/study.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/device.h"
#include "core/run/environment.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "core/run/interrupt.h"
#include "core/run/seeds.h"
#include "eval/field/field.h"
#include "study/ablation.h"
#include "study/field.h"
#include "study/layered.h"
#include "study/report.h"
#include "study/stages.h"
#include "study/store.h"
#include "study/summary.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Raised whenever a change of code changes what stages of a kind write.
int version_of(const std::string& kind) { return kind == "measure" || kind == "attack" ? 2 : 1; }

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

  void run(bool attacks) {
    check_prompts(attacks);
    if (config_.models.empty()) {
      make_models();
    } else {
      for (const GivenModel& given : config_.models) {
        const Artifact artifact = this->given(given);
        if (given.kind == "implanted") implanted_ = artifact;
        if (given.kind == "oracle") oracle_ = artifact;
        add(given.name, given.kind, given.kind, given.label, artifact);
      }
    }
    // After all are known: what is compared with the implanted model needs it.
    for (size_t i = 0; i < models_.size(); ++i) measure_model(models_[i], artifacts_[i]);
    benchmark_models();
    // Attacks come last: they take longest, and what they attack is known to be worth it by then.
    if (attacks) {
      for (size_t i = 0; i < models_.size(); ++i) {
        attack_model(models_[i], artifacts_[i]);
        if (!config_.ways_back.empty()) try_ways_back(models_[i], artifacts_[i]);
      }
    }
    finish();
  }

 private:
  /// Makes everything that models are asked, so that what does not fit the context is known before
  /// anything is computed.
  void check_prompts(bool attacks) {
    for (const Suite* suite : {&inputs_.forget, &inputs_.retain}) {
      const bool lines = suite == &inputs_.forget;
      MeasureSettings settings;
      settings.generate_questions = lines ? config_.measure.generate_questions : 0;
      settings.generate_tokens = config_.measure.generate_tokens;
      if (lines) settings.probes = config_.measure.probes;
      settings.probe_questions = config_.measure.probe_questions;
      probes_.push_back(make_measure_probes(
          *suite, inputs_.tokenizer, inputs_.chat, settings, inputs_.model.context,
          {.pushback = inputs_.pushback,
           .shown = split().train,
           .index = inputs_.passages ? &*inputs_.passages : nullptr},
          inputs_.phrases));
    }
    if (!attacks) return;
    attack_data_ =
        make_attack_folds(inputs_.forget, inputs_.retain, inputs_.benign, inputs_.tokenizer,
                          inputs_.chat, config_.attack, inputs_.model.context);
    check_ways(config_.ways_back, attack_data_.front(), inputs_.forget, inputs_.tokenizer,
               inputs_.chat, inputs_.model.context);
  }

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
    const StageKey key = stage_key(kind, settings, keys, version_of(kind));
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

  void make_models() {
    for (const Removal& removal : config_.remove) {
      // What cannot be is an error before anything is computed.
      check_unlearning(removal, inputs_);
      if (removal.method != "ablation") continue;
      ablation_space(ablation_settings(removal), inputs_.model.layers);
    }
    base_ = base();
    implanted_ = planted(*base_, true, config_.plant, "implanted", "plant/implanted");
    oracle_ = planted(*base_, false, config_.plant, "oracle", "plant/oracle");
    add("implanted", "implanted", "implanted", "implanted", *implanted_);
    add("oracle", "oracle", "oracle", "oracle", *oracle_);
    for (const Removal& removal : config_.remove) {
      add(removal.name, "removed", removal.method, removal.label, removed(removal),
          removal.languages);
    }
  }

  const Removal& removal_of(const std::string& name) const {
    return *std::find_if(config_.remove.begin(), config_.remove.end(),
                         [&](const Removal& removal) { return removal.name == name; });
  }

  /// A removal's model; its teacher, wherever it is listed, is made first.
  const Artifact& removed(const Removal& removal) {
    auto found = removed_.find(removal.name);
    if (found == removed_.end()) {
      const std::string teacher = teacher_of(removal);
      const Artifact& from = teacher.empty() || teacher == "implanted" ? *implanted_
                             : teacher == "oracle"                     ? *oracle_
                                                   : removed(removal_of(teacher));
      found = removed_.emplace(removal.name, remove(removal, *base_, *implanted_, from)).first;
      if (!teacher.empty()) ledger_.back()["teacher"] = teacher;
    }
    return found->second;
  }

  /// A model made elsewhere, keyed by its content.
  Artifact given(const GivenModel& model) const {
    Hasher key;
    key.add(Checkpoint::open(model.checkpoint).content_hash());
    if (!model.edit.empty()) key.add(hash_file(model.edit));
    return {.checkpoint = model.checkpoint, .edit = model.edit, .key = key.hex()};
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

  /// `from`: the model that it changes, the implanted one or a student's teacher.
  Artifact remove(const Removal& removal, const Artifact& base, const Artifact& implanted,
                  const Artifact& from) {
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
    // What these were before they could be chosen leaves no trace in the key.
    if (removal.resolved.is_object() && removal.resolved.value("retain_loss", "") == "nll") {
      settings["settings"].erase("retain_loss");
    }
    if (!removal.wrap.empty()) settings["wrap"] = to_json(removal.wrap);
    if (removal.layered) settings["layered"] = to_json(*removal.layered);
    std::vector<std::string> keys = {implanted.key};
    const bool learns = !teacher_of(removal).empty();
    if (learns) {
      settings["settings"].erase("teacher");  // its key says what it is, its name does not
      keys.push_back(from.key);
    }
    if (!edits) settings["train"] = to_json(removal.train);
    for (const fs::path& file : removal.text) settings["text"].push_back(hash_file(file));
    const StoredStage stored = stage(
        "remove", name, removal.name, settings, keys,
        [&](const fs::path& folder, const StageKey& key) {
          Model model = load(from);
          if (edits) return edit_into(model, removal, seed, key, folder);
          const fs::path state = store_.partial(key, "state");
          const StageCost cost =
              learns ? remove_by_undo(model, removal, inputs_, implanted.checkpoint, seed, state)
                     : remove_by_training(model, removal, inputs_, seed, state);
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

  StageCost edit_into(Model& model, const Removal& removal, uint64_t seed, const StageKey& key,
                      const fs::path& folder) {
    // The mathematics of edits is fp32 and fp64 throughout.
    model.set_compute(at::kFloat);
    EditFile edit;
    const StageCost cost =
        removal.method == "ablation"
            ? remove_by_ablation(model, removal, inputs_, seed, store_.partial(key, "jsonl"),
                                 folder / "trials.jsonl", edit)
            : remove_by_editing(model, removal, inputs_, store_.root() / "statistics", edit);
    write_edit_file(folder / "edit.safetensors", edit);
    return cost;
  }

  Json data() const {
    Json data = inputs_.data_hash;
    data["languages"] = config_.data.languages;
    data["items"] = config_.data.items;
    return data;
  }

  void add(const std::string& name, const std::string& kind, const std::string& method,
           const std::string& label, const Artifact& artifact,
           const std::vector<std::string>& treated = {}) {
    StudyModel entry{
        .name = name, .kind = kind, .method = method, .label = label, .treated = treated};
    if (const Json* made = ledger_of(name)) {
      entry.cost = Cost(nlohmann::json(*made));
      entry.examples = made->value("examples", int64_t{0});
      // A student's cost has its teacher's in it, and the teacher's teacher's. They share their
      // texts, so of examples the larger number counts. The implanted model is where all begin.
      while (made != nullptr && made->contains("teacher") && (*made)["teacher"] != "implanted") {
        made = ledger_of((*made)["teacher"]);
        *entry.cost += Cost(nlohmann::json(*made));
        entry.examples = std::max(entry.examples, made->value("examples", int64_t{0}));
      }
    }
    models_.push_back(std::move(entry));
    artifacts_.push_back(artifact);
  }

  /// The implanted model's key, where there is one: KL and some ways back depend on it.
  std::string implanted_key() const { return implanted_ ? implanted_->key : "none"; }

  void measure_model(StudyModel& entry, const Artifact& artifact) {
    const StoredStage measured =
        stage("measure", "measure/" + entry.name, entry.name,
              {{"measure", to_json(config_.measure)},
               {"data", data()},
               {"probes", inputs_.probe_hash},
               {"split", split_settings()},
               {"compute", config_.compute}},
              {artifact.key, implanted_key()}, [&](const fs::path& folder, const StageKey&) {
                Model model = load(artifact);
                return measure_into(model, artifact, folder);
              });
    for (const auto& row : read_json_lines(measured.folder / "rows.jsonl")) {
      entry.before.push_back(row.get<Measurement>());
    }
    entry.fit = read_json(measured.folder / "fit.json").get<TextFit>();
  }

  /// The other models that a benchmark can use and the study has, by their part in it.
  std::map<std::string, Artifact> others(const FieldEntry& entry) const {
    const std::string& usable = field_benchmark(entry.benchmark).models;
    std::map<std::string, Artifact> found;
    if (implanted_ && usable == "before") found["before"] = *implanted_;
    if (oracle_ && usable == "oracle") found["oracle"] = *oracle_;
    if (const auto path = entry.paths.find("reference"); path != entry.paths.end()) {
      found["reference"] = given({.checkpoint = path->second});
    }
    return found;
  }

  void benchmark_models() {
    std::map<std::string, Model> loaded;  // the others, by key
    for (size_t i = 0; i < models_.size(); ++i) {
      std::optional<Model> model;
      const auto other = [&](const Artifact& artifact) -> const Model* {
        if (artifact.key == artifacts_[i].key) return &*model;
        auto found = loaded.find(artifact.key);
        if (found == loaded.end()) found = loaded.emplace(artifact.key, load(artifact)).first;
        if (found->second.config().vocab_size != model->config().vocab_size) {
          fail("{}: has {} tokens, {} has {}; benchmarks compare models of one tokenizer",
               artifact.checkpoint.string(), found->second.config().vocab_size, models_[i].name,
               model->config().vocab_size);
        }
        return &found->second;
      };
      for (size_t f = 0; f < config_.field.size(); ++f) {
        const FieldEntry& entry = config_.field[f];
        const auto compared = others(entry);
        std::vector<std::string> keys = {artifacts_[i].key};
        for (const auto& [part, artifact] : compared) keys.push_back(part + " " + artifact.key);
        const StoredStage stored =
            stage("field", fmt::format("field/{}/{}", models_[i].name, entry.name), models_[i].name,
                  {{"benchmark", inputs_.field_keys[f]}, {"compute", config_.compute}}, keys,
                  [&](const fs::path& folder, const StageKey&) {
                    if (!model) model = load(artifacts_[i]);
                    FieldInputs inputs{*model, inputs_.tokenizer, inputs_.chat};
                    for (const auto& [part, artifact] : compared) {
                      (part == "before"   ? inputs.before
                       : part == "oracle" ? inputs.oracle
                                          : inputs.reference) = other(artifact);
                    }
                    Json result;
                    const StageCost cost = run_field(entry, inputs, result);
                    atomic_write(folder / "result.json", result.dump(1) + "\n");
                    return cost;
                  });
        // Keys in their order, and the settings of this run: files may have moved since.
        models_[i].field.push_back(Json::parse(read_text(stored.folder / "result.json")));
        models_[i].field.back()["settings"] = entry.resolved;
      }
    }
  }

  /// Few-shot examples come from the lines that the attacker holds, with folds in the first.
  Json split_settings() const {
    Json settings = {{"share", config_.attack.train_share}, {"seed", config_.attack.split_seed}};
    if (config_.attack.folds > 1) settings["folds"] = config_.attack.folds;
    return settings;
  }

  /// With folds, the first.
  Split split() const { return attack_splits(inputs_.forget.ids(), config_.attack).front(); }

  /// What the attack's stages are keyed by. Settings that came later count only where they are
  /// used, so that stages made before them stay valid.
  Json attack_settings() const {
    Json settings = to_json(config_.attack);
    const Json defaults = to_json(AttackSettings{});
    for (const char* later : {"warmup", "weight_decay", "folds"})
      if (settings[later] == defaults[later]) settings.erase(later);
    return settings;
  }

  void read_attack_rows(const fs::path& path, StudyModel& entry) {
    for (const auto& row : read_json_lines(path)) {
      entry.attacked.push_back(row.get<AttackRow>());
      entry.attacked.back().model = entry.name;
    }
  }

  void attack_model(StudyModel& entry, const Artifact& artifact) {
    const std::string& name = entry.name;
    const StoredStage attacked =
        stage("attack", "attack/" + name, name,
              {{"attack", attack_settings()}, {"data", data()}, {"compute", config_.compute}},
              {artifact.key}, [&](const fs::path& folder, const StageKey& stage_key) {
                return attack_into(artifact, name, folder / "rows.jsonl",
                                   store_.partial(stage_key, "jsonl"));
              });
    read_attack_rows(attacked.folder / "rows.jsonl", entry);
  }

  void try_ways_back(StudyModel& entry, const Artifact& artifact) {
    Json ways = Json::array();
    for (const WayBack& way : config_.ways_back)
      ways.push_back({{"name", way.name}, {"way", way.way}, {"settings", way.resolved}});
    // What an attacker can have to compare with: the released base, else the model as it was.
    const std::optional<Artifact>& other = base_ ? base_ : implanted_;
    const StoredStage tried = stage(
        "ways", "ways_back/" + entry.name, entry.name,
        {{"ways", ways},
         {"attack", attack_settings()},
         {"data", data()},
         {"compute", config_.compute}},
        {artifact.key, other ? other->key : "none"}, [&](const fs::path& folder, const StageKey&) {
          Model model = load(artifact);
          std::optional<Model> reference;
          if (other) reference = load(*other);
          const Timer timer;
          model.reset_flops();
          reset_peak_memory(device_);
          const auto rows =
              ways_back(model, entry.name, attack_data_.front(), config_.attack, config_.ways_back,
                        {.forget = inputs_.forget,
                         .tokenizer = inputs_.tokenizer,
                         .chat = inputs_.chat,
                         .reference = reference ? &*reference : nullptr});
          std::string text;
          for (const AttackRow& row : rows) text += nlohmann::json(row).dump() + "\n";
          atomic_write(folder / "rows.jsonl", text);
          return StageCost{.cost = {.flops = model.flops().total(),
                                    .seconds = timer.seconds(),
                                    .peak_bytes = peak_memory(device_)}};
        });
    const size_t before = entry.attacked.size();
    read_attack_rows(tried.folder / "rows.jsonl", entry);
    // The state before any attack is there already.
    if (before > 0) {
      entry.attacked.erase(
          std::remove_if(entry.attacked.begin() + static_cast<ptrdiff_t>(before),
                         entry.attacked.end(), [](const AttackRow& r) { return r.step == 0; }),
          entry.attacked.end());
    }
  }

  StageCost measure_into(Model& model, const Artifact& artifact, const fs::path& folder) {
    model.reset_flops();
    const Timer timer;
    reset_peak_memory(device_);
    std::string text;
    int64_t tokens = 0, examples = 0;
    const auto keep = [&](const std::vector<Measurement>& rows) {
      for (const Measurement& row : rows) {
        text += nlohmann::json(row).dump() + "\n";
        tokens += row.score.tokens;
        ++examples;
      }
    };
    for (const MeasureProbes& probes : probes_) {
      keep(measure(model, probes));
      if (probes.suite != &inputs_.forget) continue;
      keep(measure_others(model, probes, inputs_.innocent, "innocent"));
      keep(measure_others(model, probes, inputs_.controls, "controls"));
    }
    const bool is_implanted = implanted_ && implanted_->key == artifact.key;
    std::optional<Model> implanted;
    if (implanted_ && !is_implanted) implanted = load(*implanted_);
    const auto texts = inputs_.examples(inputs_.benign, Answer::line, config_.data.languages);
    auto fit = text_fit(model, texts, implanted ? &*implanted : nullptr);
    if (is_implanted) fit.kl = 0;  // to itself
    atomic_write(folder / "rows.jsonl", text);
    atomic_write(folder / "fit.json", nlohmann::json(fit).dump() + "\n");
    return {.cost = {.flops = model.flops().total(),
                     .tokens = tokens + fit.tokens,
                     .seconds = timer.seconds(),
                     .peak_bytes = peak_memory(device_)},
            .examples = examples};
  }

  StageCost attack_into(const Artifact& artifact, const std::string& name, const fs::path& path,
                        const fs::path& partial) {
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
    const auto rows = attack(model, name, attack_data_, config_.attack, done,
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

  /// The stage that made the model; null for a model made elsewhere.
  const Json* ledger_of(const std::string& model) const {
    for (const Json& line : ledger_) {
      if (line["model"] == model) return &line;  // the stage that made it comes first
    }
    return nullptr;
  }

  /// The models under their names, for other tools and for `resurface attack`.
  void link_checkpoints() const {
    fs::create_directories(out_ / "checkpoints");
    const auto link = [](const fs::path& target, const fs::path& name) {
      fs::remove(name);
      fs::create_symlink(fs::absolute(target), name);
    };
    for (size_t i = 0; i < models_.size(); ++i) {
      const fs::path name = out_ / "checkpoints" / models_[i].name;
      if (artifacts_[i].edit.empty()) {
        link(artifacts_[i].checkpoint, name);
      } else {
        link(artifacts_[i].edit, fs::path(name.string() + ".safetensors"));
        const fs::path trials = artifacts_[i].edit.parent_path() / "trials.jsonl";
        if (fs::exists(trials)) link(trials, fs::path(name.string() + ".trials.jsonl"));
      }
    }
  }

  void finish() {
    fs::create_directories(out_);
    const auto lines = [](const std::vector<Json>& rows) {
      std::string text;
      for (const Json& row : rows) text += row.dump() + "\n";
      return text;
    };
    if (config_.models.empty()) link_checkpoints();
    atomic_write(out_ / "config.resolved.yaml", yaml_text(config_.resolved()));
    Json environment = resurface::environment(static_cast<uint64_t>(config_.seed), device_);
    environment["start"] = inputs_.start_hash;
    environment["data"] = inputs_.data_hash;
    atomic_write(out_ / "environment.json", environment.dump(2) + "\n");
    atomic_write(out_ / "results.jsonl", lines(result_rows(models_)));
    atomic_write(out_ / "ledger.jsonl", lines(ledger_));
    write_field(out_, config_, models_);
    const Json summary = summarize(config_, models_, split());
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
  std::optional<Artifact> base_, implanted_, oracle_;
  std::map<std::string, Artifact> removed_;
  std::vector<MeasureProbes> probes_;    ///< of the lines, of the retain set
  std::vector<AttackData> attack_data_;  ///< by fold
  std::vector<StudyModel> models_;
  std::vector<Artifact> artifacts_;  ///< of the models, in their order
  std::vector<Json> ledger_;
};

}  // namespace

void run_study(const StudyConfig& config, const StudyOptions& options) {
  Study(config, options).run(options.attacks);
}

}  // namespace resurface
