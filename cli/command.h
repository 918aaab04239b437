// The subcommands: each file adds one to the parser and gives what it runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <CLI/App.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/text/chat.h"

namespace resurface {

/// Options that every subcommand knows.
struct Globals {
  std::string device = "auto";
  std::string dtype = "auto";
  int threads = 0;  ///< 0: one a core
  int64_t seed = 0;
  std::filesystem::path out;  ///< empty: the subcommand's default

  /// Loads a checkpoint onto the device, with the asked precision of matrices.
  Model load_model(const std::filesystem::path& folder) const;
};

struct Command {
  CLI::App* parser = nullptr;
  std::function<void(const Globals&)> run;
};

Command add_tokenize(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_convert(CLI::App& app);
Command add_score(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_index(CLI::App& app);
Command add_ask(CLI::App& app);
Command add_methods(CLI::App& app);
Command add_edits(CLI::App& app);
Command add_cost(CLI::App& app);
Command add_study(CLI::App& app);
Command add_remove(CLI::App& app);
Command add_attack(CLI::App& app);
Command add_eval(CLI::App& app);
Command add_tune(CLI::App& app);

/// Data for stdout or, with a path, for a file that appears whole once finish() is called.
class Output {
 public:
  explicit Output(std::filesystem::path path) : path_(std::move(path)) {}
  void text(std::string_view text);
  void line(const nlohmann::ordered_json& json) { text(fmt::format("{}\n", json.dump())); }
  /// Throws Error when something could not be written.
  void finish();

 private:
  std::filesystem::path path_;
  std::string kept_;
};

/// --input: a file, or stdin by default.
CLI::Option* add_input(CLI::App& command, std::filesystem::path& input, const std::string& what);
/// --model: whatever Checkpoint::open takes.
CLI::Option* add_model(CLI::App& command, std::filesystem::path& model);

/// The folder whose tokenizer, chat format and generation_config.json go with a checkpoint: that of
/// the weights, an adapter's where it has a tokenizer, or else its base's.
std::filesystem::path text_folder(const std::filesystem::path& model);

/// --chat-format and what else says how a conversation is rendered.
void add_chat(CLI::App& command, ChatSettings& settings);

/// A row's list of token ids, each checked against the vocabulary.
std::vector<int64_t> ids_of(const nlohmann::ordered_json& json, const std::string& what,
                            int64_t vocabulary);
/// A row's string field.
std::string text_of(const nlohmann::ordered_json& row, const std::string& field);

}  // namespace resurface
