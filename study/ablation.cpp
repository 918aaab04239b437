#include "study/ablation.h"

#include <cmath>

#include "core/run/files.h"
#include "editing/guard.h"
#include "editing/methods.h"
#include "eval/fit.h"
#include "eval/score.h"

namespace resurface {
namespace {

int64_t tokens_of(std::span<const Example> examples) {
  int64_t tokens = 0;
  for (const Example& example : examples) tokens += example.size();
  return tokens;
}

/// Every k-th example, so that about so many tokens are left.
std::vector<Example> thinned(const std::vector<Example>& examples, int64_t tokens) {
  const auto every = static_cast<size_t>(std::max<int64_t>(1, tokens_of(examples) / tokens));
  std::vector<Example> some;
  for (size_t i = 0; i < examples.size(); i += every) some.push_back(examples[i]);
  return some;
}

std::vector<std::vector<int64_t>> prompts_of(std::span<const Example> examples) {
  std::vector<std::vector<int64_t>> prompts;
  for (const Example& example : examples) prompts.push_back(example.prompt);
  return prompts;
}

}  // namespace

AblationSettings ablation_settings(const Removal& removal) {
  auto settings = std::get<AblationSettings>(edit_method(removal.method).defaults);
  if (removal.settings) read_into(*removal.settings, settings);
  return settings;
}

StageCost remove_by_ablation(Model& model, const Removal& removal, const StudyInputs& inputs,
                             uint64_t seed, const std::filesystem::path& log,
                             const std::filesystem::path& trials, EditFile& edit) {
  const AblationSettings settings = ablation_settings(removal);
  const auto lines = inputs.examples(inputs.forget, Answer::line, removal.languages);
  const auto retain = inputs.examples(inputs.retain, Answer::line, removal.languages);
  auto neutral = inputs.examples(inputs.text, Answer::line, removal.languages);
  neutral.insert(neutral.begin(), retain.begin(), retain.end());
  const auto texts = thinned(neutral, settings.kl_tokens);

  const Timer timer;
  reset_peak_memory(model.device());
  const double before = model.flops().total();
  const auto directions = ablation_directions(mean_residuals(model, prompts_of(lines)),
                                              mean_residuals(model, prompts_of(retain)));
  const FitReference reference = fit_reference(model, texts);
  const double prepared_flops = model.flops().total() - before;
  double seconds = timer.seconds();

  const auto measure = [&] {
    double probability = 0;
    for (const Score& line : score(model, lines)) {
      probability += std::exp(line.logprob / static_cast<double>(line.tokens));
    }
    return AblationObjectives{.rate = probability / static_cast<double>(lines.size()),
                              .kl = text_fit(model, texts, reference).kl};
  };
  auto search = search_ablation(settings, model, directions, measure, seed, log,
                                fmt::format("remove/{}", removal.name));
  const auto& chosen = search.trials[search.chosen].trial.objectives;
  if (chosen[1] > settings.kl_bound) {
    fmt::print(
        stderr,
        "remove/{}: no trial kept KL within {}; the one of the lowest, {:.3g}, is kept. Raise "
        "kl_bound or trials, or lower attention_weight and mlp_weight\n",
        removal.name, settings.kl_bound, chosen[1]);
  }
  atomic_write(trials, trial_lines(search, settings, model.layers()));
  edit = std::move(search.edit);
  // What the edit does to the model is the study's result: measured, not refused.
  edit.guard = guard_edit(model, edit, retain, {.force = true});

  double flops = prepared_flops;
  for (const AblationTrial& trial : search.trials) {
    flops += trial.flops;
    seconds += trial.seconds;
  }
  const int64_t each = tokens_of(lines) + tokens_of(texts);
  return {.cost = {.flops = flops,
                   .tokens = each * settings.trials + tokens_of(lines) + tokens_of(neutral),
                   .seconds = seconds,
                   .peak_bytes = peak_memory(model.device())},
          .examples = std::ssize(lines) + std::ssize(neutral)};
}

}  // namespace resurface
