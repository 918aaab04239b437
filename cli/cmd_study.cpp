// resurface study: a YAML file becomes stages, results and a report.
#include "cli/command.h"
#include "study/study.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path config, store;
  std::vector<std::string> overrides;
};

void study(const Options& options, const Globals& globals, const CLI::App& app) {
  StudyConfig config = load_study(options.config, options.overrides);
  // The command line wins over the file where it says something.
  if (app.get_option("--device")->count() > 0) config.device = globals.device;
  if (app.get_option("--dtype")->count() > 0) config.compute = globals.dtype;
  if (app.get_option("--seed")->count() > 0) config.seed = globals.seed;
  run_study(config, {.out = globals.out, .store = options.store});
}

}  // namespace

Command add_study(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand(
      "study", "plant, remove, attack, measure, report: everything a YAML file asks for");
  parser->add_option("config", options->config, "study, for example configs/quickstart.yaml")
      ->required()
      ->check(CLI::ExistingFile);
  parser->add_option("overrides", options->overrides,
                     "settings instead of those in the file, for example attack.steps=32");
  parser->add_option("--store", options->store,
                     "where finished stages are kept; studies share them (default runs/store)");
  parser->footer(
      "Stages that are in the store are not computed again: a study that was killed or "
      "interrupted\n"
      "goes on where it was, and a second run of a finished one takes seconds. The run folder\n"
      "(--out, by default runs/NAME) gets results.jsonl, summary.json, ledger.jsonl, report.html.");
  return {parser, [options, &app](const Globals& globals) { study(*options, globals, app); }};
}

}  // namespace resurface
