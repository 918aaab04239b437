#include "eval/field/field.h"

#include "core/run/nearest.h"
#include "eval/field/counterfact.h"
#include "eval/field/easyedit.h"
#include "eval/field/mcq.h"
#include "eval/field/membership.h"
#include "eval/field/muse.h"
#include "eval/field/tofu.h"
#include "eval/field/zsre.h"

namespace resurface {
namespace {

struct PathFinder {
  std::map<std::string, std::filesystem::path> paths;

  template <class T, class... Bounds>
  void operator()(const char* name, const T& field, const char* /*help*/, const Bounds&...) {
    if constexpr (std::is_same_v<T, std::filesystem::path>) {
      if (!field.empty()) paths[name] = field;
    }
  }
};

template <class Settings>
FieldBenchmark benchmark(const std::string& name, const std::string& paper,
                         const std::string& files, const std::string& models,
                         const std::vector<std::string>& main,
                         nlohmann::ordered_json (*run)(const Settings&, const FieldInputs&)) {
  Settings defaults;
  defaults.name = name;
  return {
      .name = name,
      .paper = paper,
      .files = files,
      .models = models,
      .main = main,
      .run =
          [run, defaults](const Config& config, const FieldInputs& inputs) {
            return run(read<Settings>(config, defaults), inputs);
          },
      .resolve =
          [defaults](const Config& config) { return to_json(read<Settings>(config, defaults)); },
      .paths =
          [defaults](const Config& config) {
            auto settings = read<Settings>(config, defaults);
            settings.check();
            PathFinder finder;
            settings.visit(finder);
            return finder.paths;
          },
      .describe = [defaults] { return describe<Settings>(defaults); }};
}

}  // namespace

const std::vector<FieldBenchmark>& field_benchmarks() {
  static const std::vector<FieldBenchmark> table = {
      benchmark("tofu", "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs",
                "forget*_perturbed.json, retain_perturbed.json, real_authors_perturbed.json, "
                "world_facts_perturbed.json",
                "oracle",
                {"model_utility", "forget_quality", "forget.truth_ratio", "forget.probability",
                 "forget.rouge_l_recall"},
                run_tofu),
      benchmark("muse",
                "Shi et al. 2024, MUSE: Machine Unlearning Six-Way Evaluation for Language Models",
                "verbmem/forget.json, knowmem/*_qa.json and *_qa_icl.json, privleak/forget.json "
                "and holdout.json",
                "oracle",
                {"verbmem.rouge_l_f1", "knowmem_forget.rouge_l_f1", "knowmem_retain.rouge_l_f1",
                 "privleak.privleak"},
                run_muse),
      benchmark("membership",
                "Shi et al. 2024, Detecting Pretraining Data; Zhang et al. 2024, Min-K%++",
                "texts as JSON or JSON lines, WikiMIA", "reference", {"auc.*"}, run_membership),
      benchmark("counterfact", "Meng et al. 2022, Locating and Editing Factual Associations in GPT",
                "counterfact.json, attribute_snippets.json", "",
                {"score", "efficacy.success", "paraphrase.success", "neighbourhood.success",
                 "generation_entropy", "reference_score"},
                run_counterfact),
      benchmark("zsre",
                "Mitchell et al. 2022, Fast Model Editing at Scale; Meng et al. 2023, MEMIT",
                "zsre_mend_eval.json", "before",
                {"score", "efficacy.argmax_share", "paraphrase.argmax_share",
                 "locality.argmax_share", "unchanged"},
                run_zsre),
      benchmark("easyedit", "Wang et al. 2023, EasyEdit",
                "edit requests, KnowEdit, EasyEdit's zsRE files", "before",
                {"reliability.argmax_share", "generalisation.argmax_share",
                 "portability.*.argmax_share", "locality.*.unchanged"},
                run_easyedit),
      benchmark("mcq",
                "Hendrycks et al. 2021, Measuring Massive Multitask Language Understanding; "
                "lm-evaluation-harness",
                "MMLU and alike as JSON or JSON lines, ARC", "",
                {"acc", "acc_stderr", "acc_norm", "acc_bytes"}, run_mcq),
  };
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
