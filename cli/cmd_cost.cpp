// resurface cost: what a study's removals would cost on a large model.
#include "cli/command.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "study/extrapolate.h"
#include "study/report.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path run;
  std::vector<std::string> at;
  ExtrapolationSettings settings;
  double tflops = 0, efficiency = 0, dollars = 0, memory = 80;
};

void run(Options options, const Globals& globals) {
  const auto file = [&](const char* name) {
    const auto path = options.run / name;
    if (!std::filesystem::exists(path)) {
      fail("{}: there is no {}; this is to be the run folder of a finished `resurface study`",
           options.run.string(), name);
    }
    return path;
  };
  const auto summary = nlohmann::ordered_json::parse(read_text(file("summary.json")));
  const StudyConfig config = load_study(file("config.resolved.yaml"), {});
  if (config.remove.empty()) {
    fail("{}: this run removed nothing, it took models as they were: their cost is not known",
         options.run.string());
  }
  const auto& start = config.model.fresh.empty() ? config.model.checkpoint : config.model.fresh;
  const auto model = start / "config.json";
  const double parameters = multiplied_parameters(read_model_config(read_json(model), model));

  options.settings.price = config.statistics.price;
  if (options.tflops > 0) options.settings.price.peak_flops = options.tflops * 1e12;
  if (options.efficiency > 0) options.settings.price.efficiency = options.efficiency;
  if (options.dollars > 0) options.settings.price.dollars_per_hour = options.dollars;
  options.settings.gpu_bytes = options.memory * 1e9;
  std::vector<LargeModel> models;
  for (const std::string& name : options.at) models.push_back(parse_large_model(name));
  if (models.empty()) models = large_models();

  const auto cost = extrapolate(summary, config, parameters, models, options.settings);
  const auto out = globals.out.empty() ? options.run / "cost.json" : globals.out;
  atomic_write(out, cost.dump(2) + "\n");
  fmt::print("{}", extrapolation_table(cost));
  if (globals.out.empty()) write_report(options.run);
}

}  // namespace

Command add_cost(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand(
      "cost", "what the removals of a finished study would cost on large models");
  parser->add_option("run", options->run, "run folder of a study, for example runs/quickstart")
      ->required()
      ->check(CLI::ExistingDirectory);
  parser->add_option("--at", options->at,
                     "1T-A32B, 671B-A37B, 235B-A22B, 70B, 8B, or NAME=PARAMETERS,ACTIVE,TOKENS "
                     "such as mine=32B,3B,10T (default: the five)");
  parser
      ->add_option("--lines", options->settings.lines,
                   "talking points to remove; FLOPs and examples grow with them (default: the "
                   "study's own)")
      ->check(CLI::PositiveNumber);
  const auto positive = [&](const char* name, double& value, const char* help) {
    return parser->add_option(name, value, help)->check(CLI::PositiveNumber);
  };
  positive("--tflops", options->tflops,
           "peak of one GPU in TFLOP/s (default: the study's statistics.price)");
  positive("--efficiency", options->efficiency, "share of it that training reaches (same default)")
      ->check(CLI::Range(0.0, 1.0));
  positive("--dollars-per-hour", options->dollars, "of one GPU (same default)");
  positive("--gpu-memory", options->memory, "of one GPU, in GB")->capture_default_str();
  parser->footer(
      "Reads summary.json and config.resolved.yaml of the run folder, prints the table with its\n"
      "assumptions, writes cost.json there (or to --out) and draws it into report.html.\n"
      "DeepSeek-V3's published 2.788M GPU hours at $2 are --efficiency .331 --dollars-per-hour 2.");
  return {parser, [options](const Globals& globals) { run(*options, globals); }};
}

}  // namespace resurface
