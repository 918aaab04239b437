#include "eval/field/field.h"

#include "core/run/nearest.h"
#include "eval/field/counterfact.h"
#include "eval/field/easyedit.h"
#include "eval/field/membership.h"
#include "eval/field/muse.h"
#include "eval/field/tofu.h"
#include "eval/field/zsre.h"

namespace resurface {
namespace {

template <class Settings>
FieldBenchmark benchmark(std::string name, std::string paper, std::string files, std::string models,
                         nlohmann::ordered_json (*run)(const Settings&, const FieldInputs&)) {
  Settings defaults;
  defaults.name = name;
  return {
      .name = std::move(name),
      .paper = std::move(paper),
      .files = std::move(files),
      .models = std::move(models),
      .run =
          [run, defaults](const Config& config, const FieldInputs& inputs) {
            return run(read<Settings>(config, defaults), inputs);
          },
      .resolve =
          [defaults](const Config& config) { return to_json(read<Settings>(config, defaults)); },
      .describe = [defaults] { return describe<Settings>(defaults); }};
}

}  // namespace

const std::vector<FieldBenchmark>& field_benchmarks() {
  // clang-format off
  static const std::vector<FieldBenchmark> table = {
      benchmark("tofu", "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs", "forget*_perturbed.json, retain_perturbed.json, real_authors_perturbed.json, world_facts_perturbed.json", "oracle", run_tofu),
      benchmark("muse", "Shi et al. 2024, MUSE: Machine Unlearning Six-Way Evaluation for Language Models", "verbmem/forget.json, knowmem/*_qa.json and *_qa_icl.json, privleak/forget.json and holdout.json", "oracle", run_muse),
      benchmark("membership", "Shi et al. 2024, Detecting Pretraining Data; Zhang et al. 2024, Min-K%++", "texts as JSON or JSON lines, WikiMIA", "reference", run_membership),
      benchmark("counterfact", "Meng et al. 2022, Locating and Editing Factual Associations in GPT", "counterfact.json, attribute_snippets.json", "", run_counterfact),
      benchmark("zsre", "Mitchell et al. 2022, Fast Model Editing at Scale; Meng et al. 2023, MEMIT", "zsre_mend_eval.json", "before", run_zsre),
      benchmark("easyedit", "Wang et al. 2023, EasyEdit", "edit requests, KnowEdit, EasyEdit's zsRE files", "before", run_easyedit),
  };
  // clang-format on
  return table;
}

const FieldBenchmark& field_benchmark(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& known : field_benchmarks()) {
    if (known.name == name) return known;
    names.push_back(known.name);
  }
  throw ConfigError(fmt::format("unknown benchmark '{}'{}; valid benchmarks: {}", name,
                                did_you_mean(name, names), fmt::join(names, ", ")));
}

}  // namespace resurface
