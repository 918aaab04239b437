// resurface edits: list, show, apply, undo and merge edit files.
#include "cli/command.h"
#include "core/run/error.h"
#include "editing/operations.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path path, model, edit;
  std::vector<std::filesystem::path> files;
  bool json = false, force = false;
};

std::filesystem::path required_out(const Globals& globals) {
  if (globals.out.empty()) throw ConfigError("--out is required: where the result goes");
  return globals.out;
}

void list(const Options& options, const Globals& globals) {
  Output output(globals.out);
  for (const auto& edit : list_edits(options.path)) {
    if (options.json) {
      output.line(to_json(edit));
    } else {
      output.text(fmt::format("{}  {}, {} requests, rank {}, {} parameters, |dW|/|W| {:.3g}\n",
                              edit.path.string(), edit.method, edit.requests.size(), edit.rank,
                              edit.parameters.size(), edit.relative_norm));
    }
  }
  output.finish();
}

void show(const Options& options, const Globals& globals) {
  Output output(globals.out);
  output.text(show_edit(options.edit).dump(2) + "\n");
  output.finish();
}

void apply(const Options& options, const Globals& globals) {
  auto out = required_out(globals);
  apply_edit_to_checkpoint(options.model, options.edit, out, options.force);
  fmt::print(stderr, "wrote {}\n", out.string());
}

void undo(const Options& options, const Globals& globals) {
  auto out = required_out(globals);
  auto hash = undo_last_edit(options.model, out, options.force);
  fmt::print(stderr, "wrote {}, content hash {}\n", out.string(), hash);
}

void merge(const Options& options, const Globals& globals) {
  auto out = required_out(globals);
  merge_edit_files(options.files, out, options.force);
  fmt::print(stderr, "wrote {}\n", out.string());
}

}  // namespace

Command add_edits(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* edits = app.add_subcommand("edits", "list, show, apply, undo and merge edit files");
  edits->require_subcommand(1);
  auto add = [&](const char* name, const char* help) {
    auto* parser = edits->add_subcommand(name, help);
    parser->fallthrough();
    return parser;
  };
  auto add_edit = [&](CLI::App* parser) {
    parser->add_option("edit", options->edit, "edit file")->required()->check(CLI::ExistingFile);
  };
  auto add_force = [&](CLI::App* parser, const char* help) {
    parser->add_flag("--force", options->force, help);
  };

  auto* lister = add("list", "edit files of a folder, or those applied to a checkpoint");
  lister->add_option("path", options->path, "folder, checkpoint or edit file")
      ->required()
      ->check(CLI::ExistingPath);
  lister->add_flag("--json", options->json, "JSON lines, one an edit");

  auto* shower = add("show", "all of an edit file but its factors, as JSON");
  add_edit(shower);

  auto* applier = add("apply", "write the edited checkpoint to --out");
  add_model(*applier, options->model)->check(CLI::ExistingDirectory);
  add_edit(applier);
  add_force(applier, "also on another checkpoint than it was made for");

  auto* undoer = add("undo", "write the checkpoint as it was before its last edit to --out");
  add_model(*undoer, options->model)->check(CLI::ExistingDirectory);
  add_force(undoer, "also when the checkpoint has changed since; nothing is promised then");

  auto* merger = add("merge", "one edit file with the sum of several, to --out");
  merger->add_option("files", options->files, "edit files")->required()->check(CLI::ExistingFile);
  add_force(merger, "also when they were made for different checkpoints");

  return {edits, [=](const Globals& globals) {
            if (lister->parsed()) list(*options, globals);
            if (shower->parsed()) show(*options, globals);
            if (applier->parsed()) apply(*options, globals);
            if (undoer->parsed()) undo(*options, globals);
            if (merger->parsed()) merge(*options, globals);
          }};
}

}  // namespace resurface
