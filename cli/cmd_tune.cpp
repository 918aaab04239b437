// resurface tune: the settings of a study's removals, searched with one budget for all.
#include "cli/study_config.h"
#include "study/tune.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path config, store;
  std::vector<std::string> overrides;
};

void run(const Options& options, const Globals& globals, const CLI::App& app) {
  const StudyConfig config = load_study(options.config, options.overrides, globals, app);
  tune_study(config, {.out = globals.out, .store = options.store});
}

}  // namespace

Command add_tune(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand(
      "tune", "search the settings of a study's removals, the same number of trials for each");
  parser->add_option("config", options->config, "a study, for example configs/all.yaml")
      ->required()
      ->check(CLI::ExistingFile);
  parser->add_option("overrides", options->overrides,
                     "settings instead of those in the file, for example tune.trials=12");
  parser->add_option("--store", options->store,
                     "where finished stages are kept; studies share them (default runs/store)");
  parser->footer(
      "The study's section `tune` says how many trials each removal gets and what they search:\n\n"
      "  tune:\n"
      "    trials: 12                # of each removal: a third at random, the others by TPE\n"
      "    search:\n"
      "      npo: {settings.beta: [0.05, 1, log], train.learning_rate: [1e-5, 1e-2, log]}\n"
      "      default: {train.learning_rate: [1e-5, 1e-2, log]}\n\n"
      "A trial makes the removal and measures it, without any attack, by what the removal itself\n"
      "may see: the lines' extraction strength on seen phrasings, the utility on the retain set's\n"
      "seen questions. Chosen is the lowest extraction strength of the trials that keep enough\n"
      "utility (damaged_below). Retraining is not tuned; ablation searches by itself.\n\n"
      "The folder --out (by default runs/NAME-tune) gets tuned.yaml, the study with what was\n"
      "found, for `resurface study`, and trials.jsonl. A search that was killed goes on where it\n"
      "was.");
  return {parser, [options, &app](const Globals& globals) { run(*options, globals, app); }};
}

}  // namespace resurface
