// resurface methods: every method, its formula, settings, defaults and paper.
#include "cli/command.h"
#include "cli/method_pages.h"
#include "cli/plain_math.h"
#include "core/run/files.h"
#include "core/run/nearest.h"
#include "finetune/trainer.h"

namespace resurface {
namespace {

std::string field_lines(const std::vector<FieldInfo>& fields) {
  std::string text;
  for (const auto& field : fields) {
    text +=
        fmt::format("  {} = {}{}\n      {}\n", field.name, field.value,
                    field.bounds.empty() ? "" : fmt::format("   ({})", field.bounds), field.help);
  }
  return text;
}

/// With LaTeX between dollars as text.
std::string plain(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t open = std::min(text.find('$', at), text.size());
    out += text.substr(at, open - at);
    const size_t close = std::min(text.find('$', open + 1), text.size());
    if (open < text.size()) out += plain_math(text.substr(open + 1, close - open - 1));
    at = close + 1;
  }
  return out;
}

std::string page_text(const MethodInfo& method) {
  std::string text = fmt::format("{} ({}): {}\n", method.name, method.family, method.summary);
  if (!method.paper.empty()) text += fmt::format("{}\n", method.paper);
  text += "\n";
  for (const auto& formula : formulas(method)) {
    text += fmt::format("  {}\n", plain_math(formula));
  }
  text += "\n";
  for (const auto& [latex, meaning] : symbols(method)) {
    text += fmt::format("  {}: {}\n", plain_math(latex), plain(meaning));
  }
  if (!method.needs.empty()) text += "\nneeds:\n";
  for (const auto& need : method.needs) text += fmt::format("  {}\n", need);
  if (const auto cost = cost_of(method); !cost.empty())
    text += fmt::format("\ncost:\n  {}\n", cost);
  if (!method.fields.empty()) text += fmt::format("\nsettings:\n{}", field_lines(method.fields));
  if (method.trains) {
    text += fmt::format("\ntrain:\n{}", field_lines(describe<TrainerSettings>()));
  }
  return text;
}

nlohmann::ordered_json to_json(const MethodInfo& method) {
  nlohmann::ordered_json json = {{"name", method.name},
                                 {"family", method.family},
                                 {"summary", method.summary},
                                 {"paper", method.paper},
                                 {"file", method.page.file},
                                 {"formula", formulas(method)},
                                 {"needs", method.needs},
                                 {"cost", cost_of(method)},
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

void write_pages(const std::vector<MethodInfo>& methods, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const auto& method : methods) {
    atomic_write(folder / (method.name + ".md"), method_markdown(method));
  }
  atomic_write(folder / "README.md", index_markdown(methods));
  atomic_write(folder / "training.md", training_markdown());
}

struct Options {
  std::string name;
  bool json = false;
  std::filesystem::path markdown;
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
  if (!options.markdown.empty()) {
    write_pages(methods, options.markdown);
  } else if (options.json) {
    for (const auto& method : methods) output.line(to_json(method));
  } else if (options.name.empty()) {
    for (const auto& method : methods) {
      output.text(fmt::format("{:<15}{:<15}{}\n", method.name, method.family, method.summary));
    }
  } else {
    output.text(page_text(methods.front()));
  }
  output.finish();
}

}  // namespace

Command add_methods(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser =
      app.add_subcommand("methods", "every method; with a name, its formula, settings and paper");
  auto* name = parser->add_option("name", options->name, "a method");
  auto* json = parser->add_flag("--json", options->json, "JSON lines, one a method");
  parser->add_option("--markdown", options->markdown, "write a page each, as in docs/methods")
      ->type_name("DIR")
      ->excludes(json)
      ->excludes(name);
  return {parser, [options](const Globals& globals) { show_methods(*options, globals); }};
}

}  // namespace resurface
