// resurface remove: one step of a study on a checkpoint of the user's own: checkpoint in;
// checkpoint, adapter or edit file out.
#include "cli/study_config.h"
#include "core/run/error.h"
#include "core/run/nearest.h"
#include "study/workshop.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

struct Options {
  fs::path config, store, model;
  std::vector<std::string> only, overrides;
};

/// Replaces `to` by a copy of the folder or file, which appears whole or not at all.
void deliver(const fs::path& from, const fs::path& to) {
  const fs::path whole = to.string() + ".partial";
  fs::remove_all(whole);
  fs::create_directories(to.parent_path());
  fs::copy(from, whole, fs::copy_options::recursive);
  fs::remove_all(to);
  fs::rename(whole, to);
}

std::vector<std::string> chosen(const StudyConfig& config, const std::vector<std::string>& only) {
  std::vector<std::string> names;
  for (const Removal& removal : config.remove) names.push_back(removal.name);
  if (only.empty()) return names;
  for (const std::string& name : only) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      throw ConfigError(
          fmt::format("--only {}: the config removes nothing of this name{} it has {}", name,
                      did_you_mean(name, names), fmt::join(names, ", ")));
    }
  }
  return only;
}

/// Throws for a removal that needs more than the model that has the lines, or whose teacher does.
void check_possible(const StudyConfig& config, const std::string& name) {
  for (const Removal& removal : config.remove) {
    if (removal.name != name) continue;
    const std::string teacher = teacher_of(removal);
    if (removal.method == "retrain" || teacher == "oracle") {
      throw ConfigError(fmt::format(
          "'{}' needs the model that never saw the lines, and `resurface remove` has only the one "
          "that did; run `resurface study`, or choose others by --only",
          name));
    }
    if (!teacher.empty()) check_possible(config, teacher);
  }
}

void run(const Options& options, const Globals& globals, const CLI::App& app) {
  auto overrides = options.overrides;
  overrides.push_back("model=" + nlohmann::json{{"checkpoint", options.model.string()}}.dump());
  StudyConfig config = load_study(options.config, overrides, globals, app);
  const auto names = chosen(config, options.only);
  for (const std::string& name : names) check_possible(config, name);
  const fs::path out =
      globals.out.empty() ? fs::path("runs") / (config.name + "-removed") : globals.out;
  Workshop workshop(config, options.store);
  workshop.remove_from(workshop.base());
  Output output({});
  for (const std::string& name : names) {
    const Artifact& made = workshop.removed(name);
    const fs::path to = out / name;
    if (!made.edit.empty()) {
      deliver(made.edit, to / "edit.safetensors");
    } else {
      deliver(made.checkpoint, to / "model");
      if (!made.adapter.empty()) deliver(made.adapter, to / "adapter");
    }
    nlohmann::ordered_json line = {{"name", name}, {"out", to.string()}};
    for (const char* field : {"flops", "tokens", "seconds", "peak_bytes", "examples", "reused"}) {
      line[field] = workshop.ledger_of(name)->at(field);
    }
    output.line(line);
  }
  output.finish();
}

}  // namespace

Command add_remove(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand(
      "remove", "fine-tune, unlearn or edit a checkpoint: the removals of a study's config alone");
  parser->alias("finetune")->alias("unlearn")->alias("edit");
  parser->add_option("config", options->config, "a study, for example configs/quickstart.yaml")
      ->required()
      ->check(CLI::ExistingFile);
  parser->add_option("overrides", options->overrides,
                     "settings instead of those in the file, for example data.items=5");
  add_model(*parser, options->model)
      ->description("HF folder of the checkpoint that has what is to be removed")
      ->check(CLI::ExistingDirectory);
  parser->add_option("--only", options->only, "names of the removals to make (default all)")
      ->delimiter(',');
  parser->add_option("--store", options->store,
                     "where finished stages are kept; studies share them (default runs/store)");
  parser->footer(
      "Nothing is planted, attacked or measured. Of the config, `data` and `remove` count:\n\n"
      "  data: {forget: lines.jsonl, retain: others.jsonl, languages: [en]}\n"
      "  remove:\n"
      "    - {method: npo, train: {learning_rate: 1e-5, epochs: 5}}\n"
      "    - {method: memit}\n\n"
      "--out (by default runs/NAME-removed) gets a folder for each: model/ (HF), adapter/ (PEFT)\n"
      "too where it trained by LoRA, or edit.safetensors (`resurface edits` shows, applies, "
      "undoes\n"
      "and merges it). One JSON line each: what it cost. A run that was killed goes on.");
  return {parser, [options, &app](const Globals& globals) { run(*options, globals, app); }};
}

}  // namespace resurface
