#include "unlearning/methods.h"

#include "unlearning/altpo.h"
#include "unlearning/ceu.h"
#include "unlearning/dpo.h"
#include "unlearning/ga.h"
#include "unlearning/grad_diff.h"
#include "unlearning/kl_min.h"
#include "unlearning/llmu.h"
#include "unlearning/maxent.h"
#include "unlearning/npo.h"
#include "unlearning/pdu.h"
#include "unlearning/rmu.h"
#include "unlearning/satimp.h"
#include "unlearning/simnpo.h"
#include "unlearning/task_vector.h"
#include "unlearning/undial.h"
#include "unlearning/wga.h"
#include "unlearning/wrong_answers.h"

namespace resurface {
namespace {

template <class Settings>
UnlearningMethod method(const std::string& name, const std::string& paper, int year,
                        Loss (*loss)(const Settings&, Model&, const ForgetRetainBatch&),
                        const std::string& summary) {
  return {
      .name = name,
      .paper = paper,
      .year = year,
      .summary = summary,
      .page = page_of<Settings>(),
      .objective = [loss](const Config& config) -> Objective {
        return [loss, settings = read<Settings>(config)](Model& model,
                                                         const ForgetRetainBatch& batch) {
          return loss(settings, model, batch);
        };
      },
      .needs = [](const Config& config,
                  const ModelConfig& model) { return read<Settings>(config).needs(model); },
      .alternatives = [](const Config& config) -> AlternativeAnswers {
        const auto settings = read<Settings>(config);
        if constexpr (requires { settings.alternatives(); }) return settings.alternatives();
        return {};
      },
      .resolve = [](const Config& config) { return to_json(read<Settings>(config)); },
      .describe = [] { return describe<Settings>(); },
  };
}

}  // namespace

const std::vector<UnlearningMethod>& unlearning_methods() {
  // clang-format off
  static const std::vector<UnlearningMethod> table = {
      method("ga", "Jang et al., Knowledge Unlearning for Mitigating Privacy Risks in Language Models", 2023, gradient_ascent, "raise the loss on the forget answers"),
      method("grad_diff", "Liu et al., Continual Learning and Private Unlearning", 2022, grad_diff, "raise the loss on the forget answers, lower it on the retain answers"),
      method("kl_min", "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs", 2024, kl_min, "raise the loss on the forget answers, stay near the model as it was on the retain answers"),
      method("npo", "Zhang et al., Negative Preference Optimization", 2024, npo, "push the forget answers below their log-prob before training, ever more gently"),
      method("simnpo", "Fan et al., Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning", 2024, simnpo, "push down the forget answers' mean log-prob, ever more gently, without a reference"),
      method("dpo", "Rafailov et al., Direct Preference Optimization", 2023, dpo, "prefer the suite's other answer to the forget answer"),
      method("idk_dpo", "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs", 2024, idk_dpo, "prefer \"I don't know\" to the forget answer"),
      method("altpo", "Mekala et al., Alternate Preference Optimization for Unlearning Factual Knowledge in Large Language Models", 2024, altpo, "prefer the model's own alternate answers to the forget answer"),
      method("rmu", "Li et al., The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning", 2024, rmu, "steer an early block's output towards a random direction on the forget answers"),
      method("undial", "Dong et al., UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in Large Language Models", 2024, undial, "distil the model as it was with the forget tokens' logits lowered"),
      method("wga", "Wang et al., Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond", 2025, wga, "raise the loss on the forget tokens, weighted by their probability"),
      method("satimp", "Yang et al., Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning", 2025, satimp, "raise the loss on the forget tokens, weighted by saturation and importance"),
      method("ceu", "Yang, CE-U: Cross Entropy Unlearning", 2025, ceu, "learn the model's own distribution without the forget token"),
      method("pdu", "Entesari et al., Constrained Entropic Unlearning: A Primal-Dual Framework for Large Language Models", 2025, pdu, "flatten the logits on the forget answers while the retain loss stays below a bound"),
      method("maxent", "Yuan et al., A Closer Look at Machine Unlearning for Large Language Models", 2024, maxent, "make the forget tokens as likely as all others"),
      method("wrong_answers", "Eldan and Russinovich, Who's Harry Potter? Approximate Unlearning in LLMs", 2023, wrong_answers, "train on wrong or generic answers to the same questions"),
      method("llmu", "Yao et al., Large Language Model Unlearning", 2023, llmu, "raise the loss on the forget answers, learn random ones, stay near the model as it was elsewhere"),
      method("task_vector", "Ilharco et al., Editing Models with Task Arithmetic", 2023, task_vector, "train on the forget answers, then go as far the other way"),
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
