#include "editing/methods.h"

#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

/// Binds a typed editor to the table.
template <class Settings, class Layers, class Edit>
EditMethod method(std::string name, std::string paper, std::string summary, Layers layers,
                  Edit edit) {
  return {std::move(name),
          std::move(paper),
          std::move(summary),
          Settings{},
          [layers](const EditSettings& settings, const Model& model) {
            return layers(std::get<Settings>(settings), model);
          },
          [edit](const EditSettings& settings, const Model& model, const Tokenizer& tokenizer,
                 std::span<const EditRequest> requests, Statistics& statistics) {
            return edit(std::get<Settings>(settings), model, tokenizer, requests, statistics);
          }};
}

std::vector<int64_t> one_layer(const RomeSettings& settings, const Model& model) {
  return {rome_layer(settings, model)};
}

EditFile run_rome(const RomeSettings& settings, const Model& model, const Tokenizer& tokenizer,
                  std::span<const EditRequest> requests, Statistics& statistics) {
  return rome(settings, model, tokenizer, requests, statistics);
}

}  // namespace

const std::vector<EditMethod>& edit_methods() {
  static const std::vector<EditMethod> table = {
      method<RomeSettings>(
          "rome",
          "Meng et al. 2022, Locating and Editing Factual Associations in GPT; Gupta et al. 2024, "
          "Rebuilding ROME",
          "one rank-one change of one MLP down projection per request", one_layer, run_rome),
      {"ablation",
       "Arditi et al. 2024, Refusal in Language Models Is Mediated by a Single Direction; weight "
       "kernel and search as in p-e-w/heretic 2025; TPE: Bergstra et al. 2011",
       "take the direction that sets the talking points' questions apart out of what attention and "
       "MLP write, searched for",
       AblationSettings{},
       {},
       {}},
  };
  return table;
}

const EditMethod* find_edit_method(const std::string& name) {
  const auto& all = edit_methods();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& method) { return method.name == name; });
  return found == all.end() ? nullptr : &*found;
}

const EditMethod& edit_method(const std::string& name) {
  if (const EditMethod* found = find_edit_method(name)) return *found;
  std::vector<std::string> names;
  for (const auto& entry : edit_methods()) names.push_back(entry.name);
  throw ConfigError(fmt::format("there is no editing method '{}'; did you mean '{}'? methods: {}",
                                name, nearest(name, names), fmt::join(names, ", ")));
}

}  // namespace resurface
