#include "cli/command.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <cerrno>
#include <cstring>

#include "core/checkpoint/checkpoint.h"
#include "core/run/device.h"
#include "core/run/error.h"
#include "core/run/files.h"

namespace resurface {

Model Globals::load_model(const std::filesystem::path& folder) const {
  auto where = parse_device(device);
  auto compute = parse_compute_dtype(dtype, where);
  Model model = Model::load(folder, where);
  model.set_compute(compute);
  return model;
}

void Output::text(std::string_view text) {
  if (!path_.empty()) {
    kept_ += text;
    return;
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    fail("stdout: failed writing: {}", std::strerror(errno));
  }
}

void Output::finish() {
  if (!path_.empty()) {
    atomic_write(path_, kept_);
  } else if (std::fflush(stdout) != 0) {
    fail("stdout: failed writing: {}", std::strerror(errno));
  }
}

CLI::Option* add_input(CLI::App& command, std::filesystem::path& input, const std::string& what) {
  input = "/dev/stdin";
  return command.add_option("-i,--input", input, what + "; stdin without")
      ->type_name("FILE")
      ->check(CLI::ExistingPath);
}

CLI::Option* add_model(CLI::App& command, std::filesystem::path& model) {
  return command
      .add_option("-m,--model", model,
                  "HF folder, one of its weight files, or a PEFT adapter's folder")
      ->type_name("PATH")
      ->required()
      ->check(CLI::ExistingPath);
}

std::filesystem::path text_folder(const std::filesystem::path& model) {
  return checkpoint_file(model, "tokenizer_config.json").parent_path();
}

void add_chat(CLI::App& command, ChatSettings& settings) {
  command
      .add_option("--chat-format", settings.format,
                  fmt::format("instead of the checkpoint's chat template: {}, or a .jinja file",
                              fmt::join(ChatFormat::names(), ", ")))
      ->type_name("NAME");
  command.add_option("--system", settings.system, "system prompt of the conversation")
      ->type_name("TEXT");
  command
      .add_option("--thinking", settings.thinking,
                  "the template's own switch (on, off), or a prompt that ends in an empty or an "
                  "open thought")
      ->check(CLI::IsMember({"default", "on", "off", "empty", "open"}))
      ->capture_default_str();
  command.add_option("--chat-date", settings.date, "what the template takes for today, YYYY-MM-DD")
      ->type_name("DATE");
  command
      .add_option("--chat-variable", settings.variables,
                  "NAME=VALUE for the template; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

std::vector<int64_t> ids_of(const nlohmann::ordered_json& json, const std::string& what,
                            int64_t vocabulary) {
  if (!json.is_array()) fail("{}: expected a list of token ids, got {}", what, json.dump());
  std::vector<int64_t> ids;
  for (const auto& id : json) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocabulary) {
      fail("{}: expected token ids from 0 to {}, got {}", what, vocabulary - 1, id.dump());
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

std::string text_of(const nlohmann::ordered_json& row, const std::string& field) {
  auto found = row.find(field);
  if (found == row.end()) fail("missing field '{}'", field);
  if (!found->is_string()) fail("'{}': expected text, got {}", field, found->dump());
  return found->get<std::string>();
}

}  // namespace resurface
