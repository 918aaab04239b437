#include "finetune/trainer.h"

#include <cmath>
#include <numbers>

#include "core/run/device.h"
#include "core/run/diverged.h"
#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/run/resources.h"
#include "finetune/gradients.h"
#include "finetune/lora.h"
#include "finetune/optimizers.h"
#include "finetune/qk_clip.h"
#include "finetune/reference.h"
#include "finetune/sampler.h"
#include "finetune/trainer_state.h"

namespace resurface {
namespace {

using Examples = std::span<const Example>;

/// Marks what trains and lists it.
NamedTensors trainable(Model& model, const Needs& needs, const TrainerSettings& settings,
                       uint64_t seed) {
  for (const int64_t layer : settings.layers) {
    if (layer < 0 || layer >= model.layers()) {
      fail("layers: the model has blocks 0 to {}, and {} is not one", model.layers() - 1, layer);
    }
  }
  bool any = false;
  const auto trains = [&](const std::string& name) {
    const bool found = chosen_to_train(settings, name) &&
                       (needs.trains.empty() || std::find(needs.trains.begin(), needs.trains.end(),
                                                          name) != needs.trains.end());
    any = any || found;
    return found;
  };
  for (const std::string& name : needs.trains) model.parameter(name);  // throws where there is none
  const auto check_any = [&] {
    if (!any) {
      fail(
          "nothing trains: of what the method trains ({}), layers [{}] and modules {} leave "
          "nothing",
          fmt::join(needs.trains, ", "), fmt::join(settings.layers, ", "), settings.modules);
    }
  };
  const auto linears = model.linears();
  const bool attached = std::any_of(linears.begin(), linears.end(),
                                    [](const Linear* l) { return l->lora.has_value(); });
  if (settings.reach == "full") {
    if (attached)
      fail("training with reach 'full': the model has LoRA adapters; merge or detach them");
    NamedTensors chosen;
    for (const auto& [name, value] : model.parameters()) {
      value.set_requires_grad(trains(name));
      if (value.requires_grad()) chosen.emplace_back(name, value);
    }
    check_any();
    return chosen;
  }
  if (settings.reach != "lora") fail("reach: expected full or lora, got '{}'", settings.reach);
  if (settings.optimizer == "muonclip") {
    fail("muonclip scales W_q and W_k, which do not train with reach 'lora'; take muon");
  }
  if (attached && needs.negate) {
    fail("a method that negates its training needs fresh adapters, and the model has some already");
  }
  if (!attached) attach_lora(model, settings.lora, seed);
  model.require_grad(false);
  NamedTensors adapters;
  for (const Linear* linear : linears) {
    if (linear->lora && linear->lora->magnitude.defined() != (settings.lora.variant == "dora")) {
      fail("training with reach 'lora': {}'s adapter {} DoRA's, and the settings say variant {}",
           linear->name, linear->lora->magnitude.defined() ? "is" : "is not",
           settings.lora.variant);
    }
    if (!linear->lora || linear->lora->a.size(0) != settings.lora.rank) {
      fail("training with reach 'lora': {} has {}, and the settings say rank {}", linear->name,
           linear->lora ? fmt::format("an adapter of rank {}", linear->lora->a.size(0))
                        : "no adapter",
           settings.lora.rank);
    }
    for (const auto& [suffix, tensor] : linear->lora->parts()) {
      tensor.set_requires_grad(trains(linear->name + ".weight"));
      if (tensor.requires_grad()) adapters.emplace_back(linear->name + suffix, tensor);
    }
  }
  check_any();
  return adapters;
}

/// All examples of a step in one batch.
Batch whole_step(const StepExamples& step, const TrainData& data, const Needs& needs,
                 at::Device device) {
  std::vector<const Example*> all;
  const auto add = [&](Examples examples, std::span<const int64_t> indices) {
    for (const int64_t index : indices) all.push_back(&examples[static_cast<size_t>(index)]);
  };
  add(data.forget, step.forget);
  if (needs.alternative) add(data.alternative, step.forget);
  if (needs.retain) add(data.retain, step.retain);
  return pack(std::span<const Example* const>(all), device);
}

/// Sets the model's switches for training, and puts them back however training ends.
class TrainingMode {
 public:
  TrainingMode(Model& model, Optimizer& optimizer, const TrainerSettings& settings)
      : model_(model), optimizer_(optimizer), compute_(model.compute()) {
    model.set_compute(parse_compute_dtype(settings.compute, model.device()));
    model.set_checkpointing(settings.checkpointing);
  }
  TrainingMode(const TrainingMode&) = delete;
  TrainingMode& operator=(const TrainingMode&) = delete;
  ~TrainingMode() {
    optimizer_.clear_gradients();
    for (const auto& [name, value] : optimizer_.parameters()) value.set_requires_grad(false);
    model_.set_checkpointing(false);
    model_.set_compute(compute_);
  }

 private:
  Model& model_;
  Optimizer& optimizer_;
  at::ScalarType compute_;
};

StepExamples without_left_out(StepExamples step, std::span<const char> leave_out) {
  if (leave_out.empty()) return step;
  StepExamples kept;
  for (size_t i = 0; i < step.forget.size(); ++i) {
    if (leave_out[static_cast<size_t>(step.forget[i])] != 0) continue;
    kept.forget.push_back(step.forget[i]);
    if (!step.retain.empty()) kept.retain.push_back(step.retain[i]);
  }
  return kept;
}

/// before - scale (after - before), of everything that trained. Of adapters the second factor
/// alone: it begins at zero, and the first then makes no difference.
void negate(const NamedTensors& trained, const std::vector<at::Tensor>& before, double scale) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < trained.size(); ++i) {
    const auto& [name, value] = trained[i];
    if (name.ends_with(".lora_A")) continue;
    const at::Tensor start = before[i].to(value.device());
    value.copy_(start - scale * (value - start));
  }
}

/// What the trainer keeps beside weights and moments to go on from.
constexpr const char* kMultiplier = "multiplier";

}  // namespace

void check_examples(const char* kind, Examples examples, int64_t context) {
  for (size_t i = 0; i < examples.size(); ++i) {
    const Example& example = examples[i];
    if (example.prompt.empty()) fail("training: {} example {} has an empty prompt", kind, i);
    if (example.answer.empty()) fail("training: {} example {} has an empty answer", kind, i);
    if (!(example.weight > 0) || !std::isfinite(example.weight)) {
      fail("training: {} example {} has weight {}; it must be above 0", kind, i, example.weight);
    }
    if (context > 0 && example.size() > context) {
      fail(
          "training: {} example {} has {} tokens (prompt {}, answer {}), and the model's context "
          "is {}",
          kind, i, example.size(), example.prompt.size(), example.answer.size(), context);
    }
  }
}

double learning_rate_at(const TrainerSettings& settings, int64_t step, int64_t total) {
  const int64_t warmup = std::llround(settings.warmup * static_cast<double>(total));
  if (step <= warmup) {
    return settings.learning_rate * static_cast<double>(step) / static_cast<double>(warmup);
  }
  const double done = static_cast<double>(step - 1 - warmup) / static_cast<double>(total - warmup);
  if (settings.schedule == "linear") return settings.learning_rate * (1 - done);
  if (settings.schedule == "cosine") {
    return settings.learning_rate * (1 + std::cos(std::numbers::pi * done)) / 2;
  }
  if (settings.schedule == "constant") return settings.learning_rate;
  fail("schedule: expected constant, linear or cosine, got '{}'", settings.schedule);
}

bool chosen_to_train(const TrainerSettings& settings, const std::string& parameter) {
  const auto within = [&](int64_t layer) {
    return parameter.starts_with(fmt::format("model.layers.{}.", layer));
  };
  const auto& layers = settings.layers;
  if (!layers.empty() && std::none_of(layers.begin(), layers.end(), within)) return false;
  if (settings.modules == "all") return true;
  return parameter.find(settings.modules == "mlp" ? ".mlp." : ".self_attn.") != std::string::npos;
}

TrainResult train(Model& model, const Objective& plain, const Needs& asked, const TrainData& data,
                  const TrainerSettings& settings, uint64_t seed, const TrainHooks& hooks,
                  const Wrap& wrap) {
  const Timer start;
  const auto [objective, needs] = with_wrappers(plain, asked, wrap, model.config());
  check_examples("forget", data.forget, model.config().context);
  if (!data.leave_out.empty() && data.leave_out.size() != data.forget.size()) {
    fail("training: {} marks to leave out for {} examples", data.leave_out.size(),
         data.forget.size());
  }
  if (needs.retain) check_examples("retain", data.retain, model.config().context);
  if (needs.alternative) {
    check_examples("alternative", data.alternative, model.config().context);
    if (data.alternative.size() != data.forget.size()) {
      fail("training: {} alternative answers for {} examples", data.alternative.size(),
           data.forget.size());
    }
  }
  Sampler sampler(data, settings, needs.retain, seed);
  const int64_t total = sampler.total_steps();
  const auto owned = make_optimizer(trainable(model, needs, settings, seed), settings);
  Optimizer& optimizer = *owned;
  const NamedTensors& trained = optimizer.parameters();
  const TrainingMode mode(model, optimizer, settings);
  std::vector<at::Tensor> before;
  if (needs.negate) {
    for (const auto& [name, value] : trained) {
      before.push_back(value.detach().to(at::kCPU, value.scalar_type(), false, /*copy=*/true));
    }
  }

  TrainResult result{.stopped = "done"};
  Reference reference(model, needs, data);
  WeightAverage average;
  double multiplier = needs.dual ? needs.dual->start : 1;
  std::string fingerprint;
  double flops_before = model.flops().total();
  bool resumed = false;
  if (!hooks.state.empty()) {
    fingerprint = run_fingerprint(data, needs, settings, wrap, seed);
    resumed = std::filesystem::exists(hooks.state);
  }
  if (resumed) {
    const NamedTensors kept = load_trainer_state(hooks.state, fingerprint, optimizer, result);
    reference.restore(kept);
    average.restore(kept, model.device());
    for (const auto& [name, value] : kept) {
      if (name == kMultiplier) multiplier = value.item<double>();
    }
    for (int64_t step = 0; step < result.steps; ++step) sampler.next();
  } else {
    reference.compute();
    result.flops += model.flops().total() - flops_before;
    if (hooks.on_start && !hooks.on_start()) result.stopped = "callback";
  }
  StepGradients gradients(model, objective, needs, data, reference, optimizer, wrap,
                          settings.accumulate, seed);
  const int64_t averaged_after =
      wrap.average ? std::min<int64_t>(
                         std::llround(wrap.average->start * static_cast<double>(total)), total - 1)
                   : total;
  result.seconds += start.seconds();

  Progress progress(hooks.label, total, "steps");
  while (result.steps < total && result.stopped == "done") {
    const Timer timer;
    flops_before = model.flops().total() + reference.flops() + optimizer.flops();
    const StepExamples step = without_left_out(sampler.next(), data.leave_out);
    if (step.forget.empty()) {
      ++result.steps;
      continue;
    }
    StepReport report = gradients.accumulate(step, result.steps + 1, multiplier);
    report.learning_rate = learning_rate_at(settings, report.step, total);
    if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
      throw Diverged(fmt::format(
          "training stopped in step {} of {}: loss {} (forget {}, retain {}), gradient norm {}, "
          "learning "
          "rate {}; the model is as after step {}. A lower learning_rate or clip may help",
          report.step, total, report.loss, report.forget, report.retain, report.gradient_norm,
          report.learning_rate, result.steps));
    }
    const bool clips = settings.clip > 0 && report.gradient_norm > settings.clip;
    optimizer.step(report.learning_rate, clips ? report.gradient_norm / settings.clip : 1);
    optimizer.clear_gradients();
    if (settings.optimizer == "muonclip") {
      clip_attention(model, whole_step(step, data, needs, model.device()), settings.muon.qk_clip);
    }
    if (needs.dual) {
      multiplier =
          std::max(0.0, multiplier + needs.dual->rate * (report.retain - needs.dual->bound));
    }
    if (report.step > averaged_after) average.add(trained);

    result.steps = report.step;
    result.tokens += report.tokens;
    result.flops += model.flops().total() + reference.flops() + optimizer.flops() - flops_before;
    result.seconds += timer.seconds();
    result.last_loss = report.loss;
    if (settings.stop_below != 0 && report.loss < settings.stop_below) result.stopped = "early";
    progress.at(result.steps, fmt::format("loss {:.3f}", report.loss));
    if (hooks.on_step && !hooks.on_step(report)) result.stopped = "callback";
    const bool stop = interrupted();
    const bool due = hooks.state_every > 0 && result.steps % hooks.state_every == 0;
    if (!hooks.state.empty() && (due || stop)) {
      NamedTensors kept = reference.state();
      for (const auto& tensor : average.state()) kept.push_back(tensor);
      if (needs.dual) kept.emplace_back(kMultiplier, at::scalar_tensor(multiplier, at::kDouble));
      save_trainer_state(hooks.state, fingerprint, optimizer, kept, result);
    }
    if (stop) throw Interrupted();
  }
  average.apply(trained);
  if (needs.negate) negate(trained, before, *needs.negate);
  if (!hooks.state.empty()) std::filesystem::remove(hooks.state);
  return result;
}

}  // namespace resurface
