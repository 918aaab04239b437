#include "editing/methods.h"

#include "core/run/config.h"
#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

template <class Settings>
using Editor = EditFile (*)(const Settings&, const Model&, std::span<const EditExample>,
                            Statistics&);

/// An editor on requests in text.
template <class Settings>
EditFile edit_text(const std::string& name, const Settings& settings, Editor<Settings> edit,
                   const Model& model, const Tokenizer& tokenizer,
                   std::span<const EditRequest> requests, Statistics& statistics) {
  const auto hash = model.content_hash();
  statistics.check_model(hash);
  std::vector<EditRequest> full(requests.begin(), requests.end());
  if constexpr (requires { settings.contexts; }) {
    full = with_generated_contexts(model, tokenizer, requests, settings.contexts);
  }
  ValueSettings value;
  if constexpr (requires { settings.value; }) value = settings.value;
  std::vector<EditExample> edits;
  for (const auto& request : full) edits.push_back(tokenize_request(tokenizer, request, value));
  check_contradictions(edits);
  EditFile file = edit(settings, model, edits, statistics);
  file.method = name;
  file.base_hash = hash;
  file.settings = to_json(settings).dump();
  file.requests = std::move(full);
  return file;
}

/// Binds a typed editor and the page beside it to the table.
template <class Settings>
EditMethod method(const std::string& name, const std::string& paper, Editor<Settings> edit,
                  const MethodPage& page, const std::string& summary) {
  return {.name = name,
          .paper = paper,
          .summary = summary,
          .page = page,
          .defaults = Settings{},
          .run = [name, edit](const EditSettings& settings, const Model& model,
                              const Tokenizer& tokenizer, std::span<const EditRequest> requests,
                              Statistics& statistics) {
            return edit_text(name, std::get<Settings>(settings), edit, model, tokenizer, requests,
                             statistics);
          }};
}

}  // namespace

const std::vector<EditMethod>& edit_methods() {
  // clang-format off
  static const std::vector<EditMethod> table = {
      method("rome", "Meng et al. 2022, Locating and Editing Factual Associations in GPT; Gupta et al. 2024, Rebuilding ROME", rome, rome_page, "one rank-one change of one MLP down projection per request"),
      method("memit", "Meng et al. 2023, Mass-Editing Memory in a Transformer", memit, memit_page, "a batch of requests by least squares, spread over several layers"),
      method("pmet", "Li et al. 2024, PMET: Precise Model Editing in a Transformer", pmet, pmet_page, "MEMIT with the attention's part of the value optimised apart and not written"),
      method("emmet", "Gupta et al. 2024, A Unified Framework for Model Editing", emmet, emmet_page, "ROME's equality constraint for a batch of requests at one layer"),
      method("alphaedit", "Fang et al. 2025, AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models", alphaedit, alphaedit_page, "MEMIT within the directions that general text hardly uses, earlier edits protected"),
      method("rect", "Gu et al. 2024, Model Editing Harms General Abilities of Large Language Models: Regularization to the Rescue", rect, rect_page, "MEMIT keeping only the relatively largest changes of each matrix"),
      method("ft_l", "Zhu et al. 2020, Modifying Memories in Transformer Models; Meng et al. 2022", ft_l, ft_l_page, "one down projection trained within a bound, the whole target at the prompt's last position"),
      method("ft_m", "Zhang et al. 2024, A Comprehensive Study of Knowledge Editing for Large Language Models", ft_m, ft_m_page, "one down projection trained within a bound, the target's tokens one after another"),
      {"ablation",
       "Arditi et al. 2024, Refusal in Language Models Is Mediated by a Single Direction; weight "
       "kernel and search as in p-e-w/heretic 2025; TPE: Bergstra et al. 2011",
       "take the direction that sets the talking points' questions apart out of what attention and "
       "MLP write, searched for",
       ablation_page,
       AblationSettings{},
       {}},
  };
  // clang-format on
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
