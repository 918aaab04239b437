#include "study/study.h"

#include "core/run/environment.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/key.h"
#include "study/benchmarks.h"
#include "study/field.h"
#include "study/layered.h"
#include "study/report.h"
#include "study/summary.h"
#include "study/workshop.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class Study {
 public:
  Study(const StudyConfig& config, const StudyOptions& options)
      : config_(config),
        out_(options.out.empty() ? fs::path("runs") / config.name : options.out),
        workshop_(config, options.store) {}

  void run(bool attacks) {
    check_prompts(attacks);
    if (config_.models.empty()) {
      make_models();
    } else {
      for (const GivenModel& given : config_.models) {
        const Artifact artifact = workshop_.given(given);
        if (given.kind == "implanted") implanted_ = artifact;
        if (given.kind == "oracle") oracle_ = artifact;
        add(given.name, given.kind, given.kind, given.label, artifact);
      }
    }
    // After all are known: what is compared with the implanted model needs it.
    for (size_t i = 0; i < models_.size(); ++i) measure_model(models_[i], artifacts_[i]);
    std::map<std::string, Artifact> parts;
    if (implanted_) parts["before"] = *implanted_;
    if (oracle_) parts["oracle"] = *oracle_;
    run_benchmarks(workshop_, models_, artifacts_, parts);
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
  const StudyInputs& inputs() const { return workshop_.inputs(); }
  at::Device device() const { return workshop_.device(); }

  /// Makes everything that models are asked, so that what does not fit the context is known before
  /// anything is computed.
  void check_prompts(bool attacks) {
    for (const Suite* suite : {&inputs().forget, &inputs().retain}) {
      const bool lines = suite == &inputs().forget;
      MeasureSettings settings;
      settings.generate_questions = lines ? config_.measure.generate_questions : 0;
      settings.generate_tokens = config_.measure.generate_tokens;
      if (lines) settings.probes = config_.measure.probes;
      settings.probe_questions = config_.measure.probe_questions;
      probes_.push_back(make_measure_probes(
          *suite, inputs().tokenizer, inputs().chat, settings, inputs().model.context,
          {.pushback = inputs().pushback,
           .shown = split().train,
           .index = inputs().passages ? &*inputs().passages : nullptr},
          inputs().phrases));
    }
    if (!attacks) return;
    attack_data_ =
        make_attack_folds(inputs().forget, inputs().retain, inputs().benign, inputs().tokenizer,
                          inputs().chat, config_.attack, inputs().model.context);
    check_ways(config_.ways_back, attack_data_.front(), inputs().forget, inputs().tokenizer,
               inputs().chat, inputs().model.context);
  }

  void make_models() {
    base_ = workshop_.base();
    implanted_ = workshop_.implanted();
    oracle_ = workshop_.oracle();
    add("implanted", "implanted", "implanted", "implanted", *implanted_);
    add("oracle", "oracle", "oracle", "oracle", *oracle_);
    for (const Removal& removal : config_.remove) {
      add(removal.name, "removed", removal.method, removal.label, workshop_.removed(removal.name),
          removal.languages);
    }
  }

  void add(const std::string& name, const std::string& kind, const std::string& method,
           const std::string& label, const Artifact& artifact,
           const std::vector<std::string>& treated = {}) {
    StudyModel entry{
        .name = name, .kind = kind, .method = method, .label = label, .treated = treated};
    if (const Json* made = workshop_.ledger_of(name)) {
      entry.cost = Cost(nlohmann::json(*made));
      entry.examples = made->value("examples", int64_t{0});
      // A student's cost has its teacher's in it, and the teacher's teacher's. They share their
      // texts, so of examples the larger number counts. The implanted model is where all begin.
      while (made != nullptr && made->contains("teacher") && (*made)["teacher"] != "implanted") {
        made = workshop_.ledger_of((*made)["teacher"]);
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
    const StoredStage measured = workshop_.stage("measure", "measure/" + entry.name, entry.name,
                                                 {{"measure", to_json(config_.measure)},
                                                  {"data", workshop_.data()},
                                                  {"probes", inputs().probe_hash},
                                                  {"split", split_settings()},
                                                  {"compute", config_.compute}},
                                                 {artifact.key, implanted_key()},
                                                 [&](const fs::path& folder, const StageKey&) {
                                                   Model model = workshop_.load(artifact);
                                                   return measure_into(model, artifact, folder);
                                                 });
    for (const auto& row : read_json_lines(measured.folder / "rows.jsonl")) {
      entry.before.push_back(row.get<Measurement>());
    }
    entry.fit = read_json(measured.folder / "fit.json").get<TextFit>();
  }

  /// Few-shot examples come from the lines that the attacker holds, with folds in the first.
  Json split_settings() const {
    Json settings = {{"share", config_.attack.train_share}, {"seed", config_.attack.split_seed}};
    if (config_.attack.folds > 1) settings["folds"] = config_.attack.folds;
    return settings;
  }

  /// With folds, the first.
  Split split() const { return attack_splits(inputs().forget.ids(), config_.attack).front(); }

  void read_attack_rows(const fs::path& path, StudyModel& entry) {
    for (const auto& row : read_json_lines(path)) {
      entry.attacked.push_back(row.get<AttackRow>());
      entry.attacked.back().model = entry.name;
    }
  }

  void attack_model(StudyModel& entry, const Artifact& artifact) {
    const std::string& name = entry.name;
    const StoredStage attacked =
        workshop_.stage("attack", "attack/" + name, name,
                        {{"attack", key_json(config_.attack)},
                         {"data", workshop_.data()},
                         {"compute", config_.compute}},
                        {artifact.key}, [&](const fs::path& folder, const StageKey& stage_key) {
                          return attack_into(artifact, name, folder / "rows.jsonl",
                                             workshop_.store().partial(stage_key, "jsonl"));
                        });
    read_attack_rows(attacked.folder / "rows.jsonl", entry);
  }

  void try_ways_back(StudyModel& entry, const Artifact& artifact) {
    Json ways = Json::array();
    for (const WayBack& way : config_.ways_back)
      ways.push_back({{"name", way.name}, {"way", way.way}, {"settings", way.resolved}});
    // What an attacker can have to compare with: the released base, else the model as it was.
    const std::optional<Artifact>& other = base_ ? base_ : implanted_;
    const StoredStage tried = workshop_.stage(
        "ways", "ways_back/" + entry.name, entry.name,
        {{"ways", ways},
         {"attack", key_json(config_.attack)},
         {"data", workshop_.data()},
         {"compute", config_.compute}},
        {artifact.key, other ? other->key : "none"}, [&](const fs::path& folder, const StageKey&) {
          Model model = workshop_.load(artifact);
          std::optional<Model> reference;
          if (other) reference = workshop_.load(*other);
          const Timer timer;
          model.reset_flops();
          reset_peak_memory(device());
          const auto rows =
              ways_back(model, entry.name, attack_data_.front(), config_.attack, config_.ways_back,
                        {.forget = inputs().forget,
                         .tokenizer = inputs().tokenizer,
                         .chat = inputs().chat,
                         .reference = reference ? &*reference : nullptr});
          std::string text;
          for (const AttackRow& row : rows) text += nlohmann::json(row).dump() + "\n";
          atomic_write(folder / "rows.jsonl", text);
          return StageCost{.cost = {.flops = model.flops().total(),
                                    .seconds = timer.seconds(),
                                    .peak_bytes = peak_memory(device())}};
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
    reset_peak_memory(device());
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
      if (probes.suite != &inputs().forget) continue;
      keep(measure_others(model, probes, inputs().innocent, "innocent"));
      keep(measure_others(model, probes, inputs().controls, "controls"));
    }
    const bool is_implanted = implanted_ && implanted_->key == artifact.key;
    std::optional<Model> implanted;
    if (implanted_ && !is_implanted) implanted = workshop_.load(*implanted_);
    const auto texts = inputs().examples(inputs().benign, Answer::line, config_.data.languages);
    auto fit = text_fit(model, texts, implanted ? &*implanted : nullptr);
    if (is_implanted) fit.kl = 0;  // to itself
    atomic_write(folder / "rows.jsonl", text);
    atomic_write(folder / "fit.json", nlohmann::json(fit).dump() + "\n");
    return {.cost = {.flops = model.flops().total(),
                     .tokens = tokens + fit.tokens,
                     .seconds = timer.seconds(),
                     .peak_bytes = peak_memory(device())},
            .examples = examples};
  }

  StageCost attack_into(const Artifact& artifact, const std::string& name, const fs::path& path,
                        const fs::path& partial) {
    Model model = workshop_.load(artifact);
    model.reset_flops();
    const Timer timer;
    reset_peak_memory(device());
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
    Cost cost{.seconds = timer.seconds(), .peak_bytes = peak_memory(device())};
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
    Json environment = resurface::environment(static_cast<uint64_t>(config_.seed), device());
    environment["start"] = inputs().start_hash;
    environment["data"] = inputs().data_hash;
    atomic_write(out_ / "environment.json", environment.dump(2) + "\n");
    atomic_write(out_ / "results.jsonl", lines(result_rows(models_)));
    atomic_write(out_ / "ledger.jsonl", lines(workshop_.ledger()));
    write_field(out_, config_, models_);
    const Json summary = summarize(config_, models_, split());
    atomic_write(out_ / "summary.json", summary.dump(1) + "\n");
    fmt::print("{}", summary_table(summary));
    write_report(out_);
    fmt::print(stderr, "report: {}\n", (out_ / "report.html").string());
  }

  const StudyConfig& config_;
  fs::path out_;
  Workshop workshop_;
  std::optional<Artifact> base_, implanted_, oracle_;
  std::map<std::string, Artifact> removed_;
  std::vector<MeasureProbes> probes_;    ///< of the lines, of the retain set
  std::vector<AttackData> attack_data_;  ///< by fold
  std::vector<StudyModel> models_;
  std::vector<Artifact> artifacts_;  ///< of the models, in their order
};

}  // namespace

void run_study(const StudyConfig& config, const StudyOptions& options) {
  Study(config, options).run(options.attacks);
}

}  // namespace resurface
