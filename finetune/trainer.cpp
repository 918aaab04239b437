#include "finetune/trainer.h"

#include <cmath>
#include <numbers>

#include "core/run/device.h"
#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/run/resources.h"
#include "finetune/adamw.h"
#include "finetune/lora.h"
#include "finetune/sampler.h"
#include "finetune/trainer_state.h"

namespace resurface {
namespace {

using Examples = std::span<const Example>;

/// Marks what trains and lists it.
NamedTensors trainable(Model& model, const TrainerSettings& settings, uint64_t seed) {
  const auto linears = model.linears();
  const bool attached = std::any_of(linears.begin(), linears.end(),
                                    [](const Linear* l) { return l->lora.has_value(); });
  if (settings.reach == "full") {
    if (attached)
      fail("training with reach 'full': the model has LoRA adapters; merge or detach them");
    model.require_grad(true);
    return model.parameters();
  }
  if (settings.reach != "lora") fail("reach: expected full or lora, got '{}'", settings.reach);
  if (!attached) attach_lora(model, settings.lora, seed);
  model.require_grad(false);
  NamedTensors adapters;
  for (const Linear* linear : linears) {
    if (!linear->lora || linear->lora->a.size(0) != settings.lora.rank) {
      fail("training with reach 'lora': {} has {}, and the settings say rank {}", linear->name,
           linear->lora ? fmt::format("an adapter of rank {}", linear->lora->a.size(0))
                        : "no adapter",
           settings.lora.rank);
    }
    for (const auto& [suffix, tensor] :
         {std::pair{".lora_A", linear->lora->a}, std::pair{".lora_B", linear->lora->b}}) {
      tensor.set_requires_grad(true);
      adapters.emplace_back(linear->name + suffix, tensor);
    }
  }
  return adapters;
}

/// Sets the model's switches for training, and puts them back however training ends.
class TrainingMode {
 public:
  TrainingMode(Model& model, AdamW& optimizer, const TrainerSettings& settings)
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
  AdamW& optimizer_;
  at::ScalarType compute_;
};

/// What the mean over these examples divides by.
double mean_weight(Mean mean, Examples examples, std::span<const int64_t> indices) {
  double sum = 0;
  for (const int64_t index : indices) {
    const Example& example = examples[static_cast<size_t>(index)];
    sum += example.weight * (mean == Mean::tokens ? static_cast<double>(example.answer.size()) : 1);
  }
  return sum;
}

Batch pack_indices(Examples examples, std::span<const int64_t> indices, const at::Tensor& reference,
                   at::Device device) {
  std::vector<const Example*> chosen;
  for (const int64_t index : indices) chosen.push_back(&examples[static_cast<size_t>(index)]);
  Batch batch = pack(std::span<const Example* const>(chosen), device);
  if (reference.defined()) {
    batch.reference_logprob =
        reference.index_select(0, at::tensor(at::IntArrayRef(indices.data(), indices.size())))
            .to(device);
  }
  return batch;
}

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

/// Runs forward and backward of one step, micro-batch by micro-batch. Fills losses, norm and
/// tokens.
StepReport accumulate_gradients(Model& model, const Objective& objective, const Needs& needs,
                                const TrainData& data, const StepExamples& step,
                                const at::Tensor& reference, const AdamW& optimizer,
                                int64_t micro_batches) {
  const double forget_weight = mean_weight(needs.forget_mean, data.forget, step.forget);
  const double retain_weight = mean_weight(needs.retain_mean, data.retain, step.retain);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(model.device());
  at::Tensor forget_sum = at::zeros({}, options), retain_sum = at::zeros({}, options);
  StepReport report;
  const auto count = static_cast<int64_t>(step.forget.size());
  const int64_t parts = std::min(micro_batches, count);
  for (int64_t part = 0; part < parts; ++part) {
    const auto begin = static_cast<size_t>(part * count / parts);
    const size_t size = static_cast<size_t>((part + 1) * count / parts) - begin;
    const auto forget = std::span(step.forget).subspan(begin, size);
    ForgetRetainBatch batch{.forget = pack_indices(data.forget, forget, reference, model.device())};
    double retain_share = 0;
    if (needs.retain) {
      const auto retain = std::span(step.retain).subspan(begin, size);
      batch.retain = pack_indices(data.retain, retain, {}, model.device());
      retain_share = mean_weight(needs.retain_mean, data.retain, retain) / retain_weight;
    }
    Loss loss = objective(model, batch);
    if (loss.forget.defined()) {
      loss.forget =
          loss.forget * (mean_weight(needs.forget_mean, data.forget, forget) / forget_weight);
      forget_sum += loss.forget.detach();
    }
    if (loss.retain.defined()) {
      loss.retain = loss.retain * retain_share;
      retain_sum += loss.retain.detach();
    }
    const at::Tensor total = loss.total();
    if (!total.requires_grad()) {
      fail("training: the objective's loss depends on none of the trained parameters");
    }
    total.backward();
    for (const int64_t index : forget)
      report.tokens += data.forget[static_cast<size_t>(index)].size();
    report.tokens +=
        batch.retain.tokens() + batch.retain.size();  // the inputs drop each last token
  }
  // One transfer for all three: on a GPU each would wait for the device.
  const at::Tensor values =
      at::stack({forget_sum, retain_sum, optimizer.gradient_norm()}).to(at::kCPU, at::kDouble);
  report.forget = values[0].item<double>();
  report.retain = values[1].item<double>();
  report.loss = report.forget + report.retain;
  report.gradient_norm = values[2].item<double>();
  return report;
}

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

at::Tensor Loss::total() const {
  if (!forget.defined()) return retain;
  return retain.defined() ? forget + retain : forget;
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

at::Tensor reference_logprobs(const Model& model, Examples examples) {
  constexpr int64_t kTokens = 2048;
  const at::NoGradGuard no_grad;
  const at::Tensor all = at::empty({static_cast<int64_t>(examples.size())}, at::kFloat);
  for (const auto& indices : batches_by_tokens(examples, kTokens)) {
    const Batch batch = pack_indices(examples, indices, {}, model.device());
    all.index_copy_(0, at::tensor(at::IntArrayRef(indices)),
                    model.sequence_logprob(batch).to(at::kCPU, at::kFloat));
  }
  return all;
}

TrainResult train(Model& model, const Objective& objective, const Needs& needs,
                  const TrainData& data, const TrainerSettings& settings, uint64_t seed,
                  const TrainHooks& hooks) {
  const Timer start;
  check_examples("forget", data.forget, model.config().context);
  if (!data.leave_out.empty() && data.leave_out.size() != data.forget.size()) {
    fail("training: {} marks to leave out for {} examples", data.leave_out.size(),
         data.forget.size());
  }
  if (needs.retain) check_examples("retain", data.retain, model.config().context);
  Sampler sampler(data, settings, needs.retain, seed);
  const int64_t total = sampler.total_steps();
  AdamW optimizer(trainable(model, settings, seed), {.beta1 = settings.beta1,
                                                     .beta2 = settings.beta2,
                                                     .epsilon = settings.epsilon,
                                                     .weight_decay = settings.weight_decay});
  const TrainingMode mode(model, optimizer, settings);

  TrainResult result;
  at::Tensor reference;
  std::string fingerprint;
  double flops_before = model.flops().total();
  if (!hooks.state.empty()) {
    fingerprint = run_fingerprint(data, needs, settings, seed);
    if (std::filesystem::exists(hooks.state)) {
      load_trainer_state(hooks.state, fingerprint, optimizer, reference, result);
      for (int64_t step = 0; step < result.steps; ++step) sampler.next();
    }
  }
  if (needs.reference_logprob && !reference.defined()) {
    reference = reference_logprobs(model, data.forget);
    result.flops += model.flops().total() - flops_before;
  }
  result.seconds += start.seconds();

  Progress progress(hooks.label, total, "steps");
  result.stopped = "done";
  while (result.steps < total && result.stopped == "done") {
    const Timer timer;
    flops_before = model.flops().total();
    const StepExamples step = without_left_out(sampler.next(), data.leave_out);
    if (step.forget.empty()) {
      ++result.steps;
      continue;
    }
    StepReport report = accumulate_gradients(model, objective, needs, data, step, reference,
                                             optimizer, settings.accumulate);
    report.step = result.steps + 1;
    report.learning_rate = learning_rate_at(settings, report.step, total);
    if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
      fail(
          "training stopped in step {} of {}: loss {} (forget {}, retain {}), gradient norm {}, "
          "learning "
          "rate {}; the model is as after step {}. A lower learning_rate or clip may help",
          report.step, total, report.loss, report.forget, report.retain, report.gradient_norm,
          report.learning_rate, result.steps);
    }
    const bool clips = settings.clip > 0 && report.gradient_norm > settings.clip;
    optimizer.step(report.learning_rate, clips ? report.gradient_norm / settings.clip : 1);
    optimizer.clear_gradients();

    result.steps = report.step;
    result.tokens += report.tokens;
    result.flops += model.flops().total() - flops_before;
    result.seconds += timer.seconds();
    result.last_loss = report.loss;
    if (settings.stop_below != 0 && report.loss < settings.stop_below) result.stopped = "early";
    progress.at(result.steps, fmt::format("loss {:.3f}", report.loss));
    if (hooks.on_step && !hooks.on_step(report)) result.stopped = "callback";
    const bool stop = interrupted();
    const bool due = hooks.state_every > 0 && result.steps % hooks.state_every == 0;
    if (!hooks.state.empty() && (due || stop)) {
      save_trainer_state(hooks.state, fingerprint, optimizer, reference, result);
    }
    if (stop) throw Interrupted();
  }
  if (!hooks.state.empty()) std::filesystem::remove(hooks.state);
  return result;
}

}  // namespace resurface
