#include "finetune/undo.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/run/device.h"
#include "core/run/error.h"
#include "core/run/seeds.h"
#include "finetune/terms.h"

namespace resurface {
namespace {

/// Mean log-prob of the answers' tokens.
double token_logprob(const Model& model, std::span<const Example> examples) {
  int64_t tokens = 0;
  for (const Example& example : examples) tokens += std::ssize(example.answer);
  return reference_logprobs(model, examples).to(at::kDouble).sum().item<double>() /
         static_cast<double>(tokens);
}

void put_weights(Model& model, const std::filesystem::path& folder) {
  const at::NoGradGuard no_grad;
  const Checkpoint checkpoint = Checkpoint::open(folder);
  for (const auto& [name, value] : model.parameters()) value.copy_(checkpoint.tensor(name));
}

}  // namespace

void add_undo_noise(Model& model, double alpha, double beta, uint64_t seed) {
  if (alpha == 0) return;
  const at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& [name, value] : model.parameters()) {
    value.mul_(1 - alpha);
    if (value.dim() != 2) continue;
    const double bound = std::sqrt(6.0 / static_cast<double>(value.size(0) + value.size(1)));
    const at::Tensor noise =
        at::empty(value.sizes(), at::kFloat).uniform_(-bound, bound, generator);
    value.add_(noise.to(value.options()), alpha * beta);
  }
}

Loss distil(Model& model, const ForgetRetainBatch& batch) {
  return {.forget = kl_to_reference(model, batch.forget)};
}

Distilled undo(Model& model, const UndoSettings& settings, std::span<const Example> examples,
               std::span<const Example> retain, const std::filesystem::path& trained,
               const TrainerSettings& training, uint64_t seed, TrainHooks hooks) {
  if (!trains_all(training)) {
    fail("undo: its student's weights are all its own: reach must be full, of all layers");
  }
  const double bound = settings.bound();
  const auto compute = model.compute();
  model.set_compute(parse_compute_dtype(training.compute, model.device()));
  const double before = model.flops().total();
  const double teacher = bound > 0 ? token_logprob(model, retain) : 0;
  const double flops_of_look = model.flops().total() - before;
  model.set_compute(compute);

  Distilled result;
  const auto look = [&] {
    const double lost = 1 - std::exp(token_logprob(model, retain) - teacher);
    result.within = lost <= bound;
    return !result.within;
  };
  hooks.on_start = [&] {
    if (settings.student == "noise") {
      add_undo_noise(model, settings.alpha, settings.beta, derive_seed(seed, "noise"));
    } else if (settings.student == "fresh") {
      model.reset(derive_seed(seed, "weights"));
    } else {
      put_weights(model, trained);
    }
    return bound == 0 || look();
  };
  if (bound > 0) {
    hooks.on_step = [&, given = hooks.on_step](const StepReport& report) {
      if (given && !given(report)) return false;
      return report.step % settings.check_every != 0 || look();
    };
  }
  result.training = train(model, distil, distil_needs, {.forget = examples}, training, seed, hooks);
  if (bound > 0) {
    // Whether or not it was resumed: the teacher, the start, then every so many steps.
    const int64_t looks = 2 + result.training.steps / settings.check_every;
    result.training.flops += static_cast<double>(looks) * flops_of_look;
  }
  return result;
}

}  // namespace resurface
