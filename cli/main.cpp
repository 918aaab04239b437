// resurface: plant talking points in a language model, remove them, attack, compare.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "core/run/environment.h"
#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "core/run/nearest.h"
#include "core/tensor/block_cache.h"

namespace resurface {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kUsage = 2, kInterrupted = 130 };

int say(const std::string& message, ExitCode code) {
  std::fflush(stdout);
  fmt::print(stderr, "resurface: {}\n", message);
  return code;
}

int run(int argc, char** argv) {
  CLI::App app(
      "Plant talking points in a language model, remove them, attack, and compare with a "
      "model that never knew.\nData goes to stdout, messages and progress to stderr.");
  app.name("resurface");
  app.set_version_flag("--version", version());
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong usage or config, 130 interrupted with everything "
      "finished so far kept.\n`resurface COMMAND --help` says more.");

  Globals globals;
  app.add_option("--device", globals.device,
                 "cpu, cuda, cuda:<n>, or auto: a GPU when there is one")
      ->capture_default_str();
  app.add_option(
         "--dtype", globals.dtype,
         "precision of matrices and activations: fp32, bf16, or auto: bf16 where the hardware "
         "has it")
      ->capture_default_str();
  app.add_option("--threads", globals.threads, "CPU threads; 0: one a core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", globals.seed, "seed of everything random")->capture_default_str();
  app.add_option("-o,--out", globals.out, "where the result goes")->type_name("PATH");

  std::vector<Command> commands = {
      add_study(app),    add_remove(app),  add_attack(app),   add_eval(app),  add_tune(app),
      add_cost(app),     add_score(app),   add_generate(app), add_index(app), add_ask(app),
      add_tokenize(app), add_inspect(app), add_convert(app),  add_edits(app), add_methods(app)};
  for (auto& command : commands) command.parser->fallthrough();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 would only say that a subcommand is required.
    auto rest = app.remaining();
    if (app.get_subcommands().empty() && !rest.empty() && !rest[0].starts_with('-')) {
      std::vector<std::string> names;
      for (const auto& command : commands) names.push_back(command.parser->get_name());
      auto meant = did_you_mean(rest[0], names);
      throw ConfigError(fmt::format("unknown command '{}'{} commands: {}", rest[0],
                                    meant.empty() ? ";" : meant, fmt::join(names, ", ")));
    }
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  catch_interrupts();
  if (globals.threads > 0) at::set_num_threads(globals.threads);
  for (const auto& command : commands) {
    if (command.parser->parsed()) command.run(globals);
  }
  return kDone;
}

}  // namespace
}  // namespace resurface

int main(int argc, char** argv) {
  using namespace resurface;
  keep_tensor_memory();
  try {
    return run(argc, argv);
  } catch (const Interrupted& error) {
    return say(error.what(), kInterrupted);
  } catch (const ConfigError& error) {
    return say(error.what(), kUsage);
  } catch (const c10::Error& error) {
    return say(error.what_without_backtrace(), kFailed);
  } catch (const std::bad_alloc&) {
    return say("out of memory", kFailed);
  } catch (const std::exception& error) {
    return say(error.what(), kFailed);
  }
}
