// resurface methods: every method, its settings, defaults and paper.
#include "cli/command.h"
#include "core/run/config.h"
#include "core/run/nearest.h"
#include "editing/methods.h"
#include "finetune/methods.h"
#include "finetune/trainer.h"
#include "unlearning/methods.h"

namespace resurface {
namespace {

struct Method {
  std::string name, family, paper, summary;
  bool trains = true;  ///< takes the trainer's settings and wrappers too
  std::vector<FieldInfo> fields = {};
};

std::vector<Method> all_methods() {
  std::vector<Method> methods;
  for (const auto& method : kFinetuneMethods) {
    methods.push_back({.name = method.name,
                       .family = "finetune",
                       .paper = method.paper,
                       .summary = method.summary,
                       .fields = method.describe ? method.describe() : std::vector<FieldInfo>{}});
  }
  for (const auto& method : unlearning_methods()) {
    methods.push_back({.name = method.name,
                       .family = "unlearning",
                       .paper = fmt::format("{} ({})", method.paper, method.year),
                       .summary = method.summary,
                       .fields = method.describe()});
  }
  for (const auto& method : edit_methods()) {
    auto fields =
        std::visit([](const auto& settings) { return describe(settings); }, method.defaults);
    methods.push_back({.name = method.name,
                       .family = "editing",
                       .paper = method.paper,
                       .summary = method.summary,
                       .trains = false,
                       .fields = fields});
  }
  for (const auto& wrapper : kWrappers) {
    methods.push_back({.name = wrapper.name,
                       .family = "wrapper",
                       .paper = wrapper.paper,
                       .summary = wrapper.summary,
                       .trains = false,
                       .fields = wrapper.describe()});
  }
  return methods;
}

std::string field_lines(const std::vector<FieldInfo>& fields) {
  std::string text;
  for (const auto& field : fields) {
    text +=
        fmt::format("  {} = {}{}\n      {}\n", field.name, field.value,
                    field.bounds.empty() ? "" : fmt::format("   ({})", field.bounds), field.help);
  }
  return text;
}

std::string field_table(const std::vector<FieldInfo>& fields) {
  std::string text = "| Setting | Type | Default | Bounds | Meaning |\n|---|---|---|---|---|\n";
  auto escaped = [](const std::string& cell) {
    std::string out;
    for (char c : cell) {
      if (c == '|') out += '\\';
      out += c;
    }
    return out;
  };
  for (const auto& field : fields) {
    text += fmt::format("| `{}` | {} | `{}` | {} | {} |\n", field.name, field.type, field.value,
                        escaped(field.bounds), escaped(field.help));
  }
  return text;
}

std::string reference_page(const std::vector<Method>& methods) {
  std::string text = "# Methods\n\nWritten by `resurface methods --markdown`.\n";
  for (const auto& method : methods) {
    text += fmt::format("\n## {}\n\n{}: {}.", method.name, method.family, method.summary);
    if (!method.paper.empty()) text += fmt::format(" {}.", method.paper);
    if (method.trains) text += " Takes the [training settings](#training) too.";
    if (method.family == "wrapper") {
      text += fmt::format(" Combines with any method that trains: `wrap: [{}]`.", method.name);
    }
    text += "\n";
    if (!method.fields.empty()) text += fmt::format("\n{}", field_table(method.fields));
  }
  return fmt::format("{}\n## Training\n\nOf every method that trains.\n\n{}", text,
                     field_table(describe<TrainerSettings>()));
}

nlohmann::ordered_json to_json(const Method& method) {
  nlohmann::ordered_json json = {{"name", method.name},
                                 {"family", method.family},
                                 {"summary", method.summary},
                                 {"paper", method.paper},
                                 {"settings", nlohmann::ordered_json::array()}};
  auto add = [&](const FieldInfo& field, const std::string& prefix) {
    json["settings"].push_back({{"name", fmt::format("{}{}", prefix, field.name)},
                                {"type", field.type},
                                {"default", nlohmann::ordered_json::parse(field.value)},
                                {"bounds", field.bounds},
                                {"help", field.help}});
  };
  for (const auto& field : method.fields) add(field, "");
  if (method.trains) {
    for (const auto& field : describe<TrainerSettings>()) add(field, "train.");
  }
  return json;
}

struct Options {
  std::string name;
  bool json = false, markdown = false;
};

void show_methods(const Options& options, const Globals& globals) {
  Output output(globals.out);
  auto methods = all_methods();
  if (!options.name.empty()) {
    std::vector<std::string> names;
    for (const auto& method : methods) names.push_back(method.name);
    std::erase_if(methods, [&](const auto& method) { return method.name != options.name; });
    if (methods.empty()) {
      auto meant = did_you_mean(options.name, names);
      throw ConfigError(fmt::format("unknown method '{}'{} methods: {}", options.name,
                                    meant.empty() ? ";" : meant, fmt::join(names, ", ")));
    }
  }
  if (options.markdown) {
    output.text(reference_page(methods));
  } else if (options.json) {
    for (const auto& method : methods) output.line(to_json(method));
  } else if (options.name.empty()) {
    for (const auto& method : methods) {
      output.text(fmt::format("{:<15}{:<12}{}\n", method.name, method.family, method.summary));
    }
  } else {
    const auto& method = methods.front();
    output.text(fmt::format("{} ({}): {}\n", method.name, method.family, method.summary));
    if (!method.paper.empty()) output.text(fmt::format("{}\n", method.paper));
    if (!method.fields.empty())
      output.text(fmt::format("\nsettings:\n{}", field_lines(method.fields)));
    if (method.trains) {
      output.text(fmt::format("\ntrain:\n{}", field_lines(describe<TrainerSettings>())));
    }
  }
  output.finish();
}

}  // namespace

Command add_methods(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand("methods", "every method; with a name, its settings and paper");
  parser->add_option("name", options->name, "a method");
  auto* json = parser->add_flag("--json", options->json, "JSON lines, one a method");
  parser->add_flag("--markdown", options->markdown, "as the page docs/methods.md")->excludes(json);
  return {parser, [options](const Globals& globals) { show_methods(*options, globals); }};
}

}  // namespace resurface
