#include "editing/ablation_search.h"

#include <cmath>

#include "core/run/config.h"
#include "core/run/files.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/run/resources.h"
#include "core/run/seeds.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

/// What stands for an objective that is not finite: worse than anything a model can reach.
constexpr double kBroken = 1e6;

std::vector<Trial> bare(const std::vector<AblationTrial>& trials) {
  std::vector<Trial> all;
  for (const auto& done : trials) all.push_back(done.trial);
  return all;
}

/// How much of each block is taken out, as the listing of edits shows it.
std::vector<EditMeasure> measures(const Model& model, const std::vector<Delta>& deltas,
                                  int64_t layers) {
  std::vector<EditMeasure> all;
  for (int64_t block = 0; block < layers; ++block) {
    EditMeasure measure{.id = fmt::format("block {}", block), .layer = block};
    for (const auto& delta : deltas) {
      if (!delta.parameter.starts_with(fmt::format("model.layers.{}.", block))) continue;
      const double norm = delta.left.norm().item<double>() * delta.right.norm().item<double>();
      const double whole = model.parameter(delta.parameter).detach().norm().item<double>();
      measure.relative_norm = std::max(measure.relative_norm, norm / whole);
    }
    if (measure.relative_norm > 0) all.push_back(std::move(measure));
  }
  return all;
}

/// An edit on the model while it lives.
class Applied {
 public:
  Applied(Model& model, const EditFile& edit)
      : model_(model), originals_(apply_edit(model, edit, true)) {}
  Applied(const Applied&) = delete;
  Applied& operator=(const Applied&) = delete;
  ~Applied() { undo_edit(model_, originals_); }

 private:
  Model& model_;
  std::map<std::string, at::Tensor> originals_;
};

}  // namespace

size_t choose_trial(std::span<const AblationTrial> trials, double kl_bound) {
  const auto better = [&](const AblationTrial& a, const AblationTrial& b) {
    const auto &x = a.trial.objectives, &y = b.trial.objectives;
    const bool within = x[1] <= kl_bound;
    if (within != (y[1] <= kl_bound)) return within;
    return within ? std::pair(x[0], x[1]) < std::pair(y[0], y[1]) : x[1] < y[1];
  };
  return static_cast<size_t>(std::min_element(trials.begin(), trials.end(), better) -
                             trials.begin());
}

AblationSearch search_ablation(const AblationSettings& settings, Model& model,
                               const at::Tensor& directions,
                               const std::function<AblationObjectives()>& measure, uint64_t seed,
                               const std::filesystem::path& log, const std::string& label) {
  const auto space = ablation_space(settings, model.layers());
  const int64_t last = settings.last_layer < 0 ? model.layers() - 1 : settings.last_layer;
  const auto edit_of = [&](const Trial& trial) {
    EditFile edit;
    edit.deltas = ablation_deltas(model, directions, ablation_at(space, trial.values),
                                  settings.first_layer, last);
    return edit;
  };
  AblationSearch search;
  search.trials = read_trials(log, space);
  if (std::ssize(search.trials) > settings.trials) {
    search.trials.resize(static_cast<size_t>(settings.trials));
  }
  JsonLines lines(log);
  Progress progress(label, settings.trials, "trials");
  while (std::ssize(search.trials) < settings.trials) {
    check_interrupted();
    const size_t number = search.trials.size();
    const Timer timer;
    const double before = model.flops().total();
    AblationTrial next;
    next.trial.values = suggest(space, bare(search.trials),
                                {.startup = settings.startup, .candidates = settings.candidates},
                                derive_seed(seed, fmt::format("trial {}", number)));
    AblationObjectives found;
    {
      const Applied applied(model, edit_of(next.trial));
      found = measure();
    }
    for (const double value : {found.rate, found.kl}) {
      next.trial.objectives.push_back(std::isfinite(value) ? value : kBroken);
    }
    next.flops = model.flops().total() - before;
    next.seconds = timer.seconds();
    lines.append(describe_trial(next, space, number, settings));
    search.trials.push_back(std::move(next));
    progress.at(std::ssize(search.trials),
                fmt::format("rate {:.3f}, KL {:.3g}", found.rate, found.kl));
  }

  search.front = nondominated(bare(search.trials));
  search.chosen = choose_trial(search.trials, settings.kl_bound);
  search.edit = edit_of(search.trials[search.chosen].trial);
  search.edit.method = "ablation";
  search.edit.measures = measures(model, search.edit.deltas, model.layers());
  search.edit.base_hash = model.content_hash();
  Json described = to_json(settings);
  described["chosen"] =
      describe_trial(search.trials[search.chosen], space, search.chosen, settings);
  for (size_t i = 0; i < search.trials.size(); ++i) {
    if (search.front[i]) {
      described["front"].push_back(describe_trial(search.trials[i], space, i, settings));
    }
  }
  search.edit.settings = described.dump();
  return search;
}

std::string trial_lines(const AblationSearch& search, const AblationSettings& settings,
                        int64_t layers) {
  const auto space = ablation_space(settings, layers);
  std::string text;
  for (size_t i = 0; i < search.trials.size(); ++i) {
    Json line = describe_trial(search.trials[i], space, i, settings);
    line["front"] = static_cast<bool>(search.front[i]);
    line["chosen"] = i == search.chosen;
    text += line.dump() + "\n";
  }
  return text;
}

}  // namespace resurface
