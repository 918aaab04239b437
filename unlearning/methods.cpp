#include "unlearning/methods.h"

namespace resurface {
namespace {

template <class Settings>
UnlearningMethod method(std::string name, std::string paper, int year, Needs needs,
                        Loss (*loss)(const Settings&, Model&, const ForgetRetainBatch&),
                        std::string summary) {
  return {
      .name = std::move(name),
      .paper = std::move(paper),
      .year = year,
      .needs = needs,
      .summary = std::move(summary),
      .objective = [loss](const Config& config) -> Objective {
        return [loss, settings = read<Settings>(config)](Model& model,
                                                         const ForgetRetainBatch& batch) {
          return loss(settings, model, batch);
        };
      },
      .resolve = [](const Config& config) { return to_json(read<Settings>(config)); },
      .describe = [] { return describe<Settings>(); },
  };
}

}  // namespace

const std::vector<UnlearningMethod>& unlearning_methods() {
  // clang-format off
  static const std::vector<UnlearningMethod> table = {
      method("ga", "Jang et al., Knowledge Unlearning for Mitigating Privacy Risks in Language Models", 2023, {}, gradient_ascent, "raise the loss on the forget answers"),
      method("grad_diff", "Liu et al., Continual Learning and Private Unlearning", 2022, {.retain = true}, grad_diff, "raise the loss on the forget answers, lower it on the retain answers"),
      method("npo", "Zhang et al., Negative Preference Optimization", 2024, {.retain = true, .reference_logprob = true, .forget_mean = Mean::sequences}, npo, "push the forget answers below their log-prob before training, ever more gently"),
  };
  // clang-format on
  return table;
}

const UnlearningMethod* find_unlearning_method(const std::string& name) {
  const auto& all = unlearning_methods();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& method) { return method.name == name; });
  return found == all.end() ? nullptr : &*found;
}

const UnlearningMethod& unlearning_method(const std::string& name) {
  if (const UnlearningMethod* found = find_unlearning_method(name)) return *found;
  std::vector<std::string> names;
  for (const UnlearningMethod& known : unlearning_methods()) names.push_back(known.name);
  throw ConfigError(fmt::format("unknown unlearning method '{}'; valid methods: {}", name,
                                fmt::join(names, ", ")));
}

}  // namespace resurface
