// resurface inspect: what a checkpoint is.
#include "cli/command.h"
#include "core/checkpoint/inspect.h"
#include "core/model/anatomy.h"
#include "core/run/error.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path checkpoint;
  bool json = false, tensors = false;
};

void inspect(const Options& options, const Globals& globals) {
  auto report = inspect_checkpoint(options.checkpoint);
  try {
    report["model"] = describe_model(read_model_config(report["config"], "config.json"));
  } catch (const Error& unknown) {  // the file can be looked at all the same
    report["model"] = {{"family", nullptr}, {"why", unknown.what()}};
  }
  Output output(globals.out);
  if (options.json) {
    output.text(report.dump(2) + "\n");
    output.finish();
    return;
  }
  auto line = [&](const std::string& name, const std::string& value) {
    output.text(fmt::format("{:<18}{}\n", name, value));
  };
  auto plain = [](const nlohmann::ordered_json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  for (const char* field : {"architecture", "parameters", "bytes", "content_hash"}) {
    line(field, plain(report.at(field)));
  }
  const auto& model = report.at("model");
  if (model.at("family").is_null()) {
    line("family", fmt::format("none: {}", plain(model.at("why"))));
  } else {
    for (const char* field : {"family", "active_parameters", "layers", "attention", "mlp"}) {
      line(field, plain(model.at(field)));
    }
    const auto& cost = model.at("forward_flops");
    line("flops", fmt::format("{:.4g} forward over {} tokens", cost.at("flops").get<double>(),
                              cost.at("tokens").dump()));
    for (const auto& site : model.at("edit_sites")) {
      line("edit site",
           fmt::format("{}: {}, keys of {}{}", site.at("layer").dump(), plain(site.at("stored")),
                       site.at("key_width").dump(),
                       site.contains("experts")
                           ? fmt::format(" for each of {} experts that the subjects choose",
                                         site.at("experts").dump())
                           : ""));
    }
  }
  for (const auto& [dtype, held] : report.at("dtypes").items()) {
    line(dtype, fmt::format("{} tensors, {} parameters, {} bytes", held.at("tensors").dump(),
                            held.at("parameters").dump(), held.at("bytes").dump()));
  }
  for (const auto& file : report.at("files")) {
    line("file", fmt::format("{}, {} bytes, {} tensors", plain(file.at("name")),
                             file.at("bytes").dump(), file.at("tensors").dump()));
  }
  if (options.tensors) {
    for (const auto& tensor : report.at("tensors")) {
      output.text(fmt::format("  {:<5} {:<16} {}\n", plain(tensor.at("dtype")),
                              tensor.at("shape").dump(), plain(tensor.at("name"))));
    }
  }
  output.finish();
}

}  // namespace

Command add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser =
      app.add_subcommand("inspect", "what a checkpoint is: architecture, parameters, dtypes, hash");
  parser->add_option("checkpoint", options->checkpoint, "HF folder")
      ->required()
      ->check(CLI::ExistingPath);
  parser->add_flag("--json", options->json, "everything, as JSON");
  parser->add_flag("--tensors", options->tensors, "list every tensor too");
  return {parser, [options](const Globals& globals) { inspect(*options, globals); }};
}

}  // namespace resurface
