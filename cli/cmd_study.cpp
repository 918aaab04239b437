// resurface study: a YAML file becomes stages, results and a report.
#include "cli/study_config.h"
#include "core/run/error.h"
#include "study/study.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path config, store;
  std::vector<std::string> overrides;
};

void run(const Options& options, const Globals& globals, const CLI::App& app, const char* command) {
  StudyConfig config = load_study(options.config, options.overrides, globals, app);
  const bool given = std::string_view(command) != "study";
  if (given && config.models.empty()) {
    throw ConfigError(
        fmt::format("{}: `resurface {}` works on models that exist; list them under 'models' "
                    "({{name, kind, checkpoint}}), or run `resurface study`",
                    options.config.string(), command));
  }
  run_study(
      config,
      {.out = globals.out, .store = options.store, .attacks = std::string_view(command) != "eval"});
}

Command add(CLI::App& app, const char* name, const char* help, const char* example,
            const char* footer) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand(name, help);
  parser->add_option("config", options->config, fmt::format("for example {}", example))
      ->required()
      ->check(CLI::ExistingFile);
  parser->add_option("overrides", options->overrides,
                     "settings instead of those in the file, for example attack.steps=32");
  parser->add_option("--store", options->store,
                     "where finished stages are kept; studies share them (default runs/store)");
  parser->footer(footer);
  return {parser,
          [options, &app, name](const Globals& globals) { run(*options, globals, app, name); }};
}

}  // namespace

Command add_study(CLI::App& app) {
  return add(
      app, "study", "plant, remove, attack, measure, report: everything a YAML file asks for",
      "configs/quickstart.yaml",
      "Stages that are in the store are not computed again: a study that was killed or "
      "interrupted\n"
      "goes on where it was, and a second run of a finished one takes seconds. The run folder\n"
      "(--out, by default runs/NAME) gets results.jsonl, summary.json, ledger.jsonl, report.html.");
}

Command add_attack(CLI::App& app) {
  return add(
      app, "attack",
      "the relearning attack and other ways back on checkpoints made by us or by anyone",
      "configs/attack/full.yaml",
      "The config lists the models: what was made by a removal, and, where they are known,\n"
      "the model as it was before (kind: implanted) and one that never knew (kind: oracle).\n"
      "Without the first, recovered fractions are undefined; without the second, the gap to\n"
      "the oracle is. The same report as a study's.");
}

Command add_eval(CLI::App& app) {
  return add(
      app, "eval",
      "measure checkpoints on a suite and on the field's benchmarks, without attacking them",
      "configs/attack/full.yaml",
      "The config is the one of `resurface attack`; its attack is left out. Its key `field` lists\n"
      "benchmarks (tofu, muse, membership, counterfact, zsre, easyedit, mcq) and their files.");
}

}  // namespace resurface
