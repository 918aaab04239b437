#include "finetune/gradients.h"

#include "core/run/error.h"
#include "core/run/seeds.h"

namespace resurface {
namespace {

using Examples = std::span<const Example>;

/// What the mean over these examples divides by.
double mean_weight(Mean mean, Examples examples, std::span<const int64_t> indices) {
  double sum = 0;
  for (const int64_t index : indices) {
    const Example& example = examples[static_cast<size_t>(index)];
    sum += example.weight * (mean == Mean::tokens ? static_cast<double>(example.answer.size()) : 1);
  }
  return sum;
}

void scale(at::Tensor& loss, double share) {
  if (loss.defined()) loss = loss * share;
}

at::Tensor sum(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined()) return b;
  return b.defined() ? a + b : a;
}

void must_train(const at::Tensor& loss) {
  if (!loss.defined() || !loss.requires_grad()) {
    fail("training: the objective's loss depends on none of the trained parameters");
  }
}

}  // namespace

at::Tensor Loss::on_forget() const { return sum(forget, alternative); }
at::Tensor Loss::total() const { return sum(on_forget(), retain); }

Wrapped with_wrappers(const Objective& objective, const Needs& needs, const Wrap& wrap,
                      const ModelConfig& model) {
  Wrapped wrapped{objective, needs};
  if (wrap.lat) {
    for (const int64_t block : wrap.lat->blocks(model)) {
      if (needs.frozen_blocks == 0 || block >= needs.frozen_blocks) continue;
      throw ConfigError(fmt::format(
          "lat: after block {} nothing of this method would see it, for only blocks {} and later "
          "run in its training; choose among them (layers)",
          block, needs.frozen_blocks));
    }
  }
  const bool holds = wrap.tar && wrap.tar->on() && wrap.tar->representation > 0;
  if (holds && needs.retain && needs.retain_block < 0) {
    const int64_t block = model.layers - 1;
    wrapped.needs.retain_block = block;
    wrapped.objective = [=, weight = wrap.tar->representation](Model& m,
                                                               const ForgetRetainBatch& batch) {
      Loss loss = objective(m, batch);
      if (batch.retain.size() > 0) {
        loss.retain = sum(loss.retain, weight * representation_gap(m, batch.retain, block));
      }
      return loss;
    };
  }
  return wrapped;
}

StepGradients::StepGradients(Model& model, const Objective& objective, const Needs& needs,
                             const TrainData& data, const Reference& reference,
                             const Optimizer& optimizer, const Wrap& wrap, int64_t micro_batches,
                             uint64_t seed)
    : model_(model),
      objective_(objective),
      needs_(needs),
      data_(data),
      reference_(reference),
      optimizer_(optimizer),
      wrap_(wrap),
      micro_batches_(micro_batches),
      seed_(seed) {}

ForgetRetainBatch StepGradients::pack_part(std::span<const int64_t> forget,
                                           std::span<const int64_t> retain) const {
  using Set = Reference::Set;
  const auto with_reference = [&](Examples examples, std::span<const int64_t> indices, Set set) {
    Batch batch = pack_chosen(examples, indices, model_.device());
    reference_.attach(batch, set, indices);
    return batch;
  };
  ForgetRetainBatch batch{.forget = with_reference(data_.forget, forget, Set::forget)};
  if (needs_.alternative) {
    batch.alternative = with_reference(data_.alternative, forget, Set::alternative);
  }
  if (!retain.empty()) batch.retain = with_reference(data_.retain, retain, Set::retain);
  return batch;
}

/// use(loss, batch) for each micro-batch, its losses scaled by their shares of the step's means.
template <class Use>
void StepGradients::each_part(const StepExamples& step, bool with_retain, Use&& use) {
  const auto share = [](Mean mean, Examples examples, std::span<const int64_t> part,
                        const std::vector<int64_t>& whole) {
    return mean_weight(mean, examples, part) / mean_weight(mean, examples, whole);
  };
  const auto count = static_cast<int64_t>(step.forget.size());
  const int64_t parts = std::min(micro_batches_, count);
  for (int64_t part = 0; part < parts; ++part) {
    const auto begin = static_cast<size_t>(part * count / parts);
    const size_t size = static_cast<size_t>((part + 1) * count / parts) - begin;
    const auto forget = std::span(step.forget).subspan(begin, size);
    std::span<const int64_t> retain;
    if (needs_.retain && with_retain) retain = std::span(step.retain).subspan(begin, size);
    ForgetRetainBatch batch = pack_part(forget, retain);
    if (wrap_.lat) {
      batch.forget.added = latent_attack(model_, batch.forget, optimizer_.parameters(), *wrap_.lat);
    }
    Loss loss = objective_(model_, batch);
    scale(loss.forget, share(needs_.forget_mean, data_.forget, forget, step.forget));
    if (needs_.alternative) {
      scale(loss.alternative, share(Mean::tokens, data_.alternative, forget, step.forget));
    }
    if (!retain.empty()) {
      scale(loss.retain, share(needs_.retain_mean, data_.retain, retain, step.retain));
    }
    use(loss, batch);
  }
}

StepReport StepGradients::accumulate(const StepExamples& step, int64_t number, double multiplier) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(model_.device());
  at::Tensor forget_sum = at::zeros({}, options), retain_sum = at::zeros({}, options);
  StepReport report;
  report.step = number;
  report.multiplier = multiplier;
  const NamedTensors& trained = optimizer_.parameters();
  std::vector<at::Tensor> ascent(trained.size()), tamper;
  if (wrap_.tar && wrap_.tar->on()) {
    tamper = tamper_gradients(model_, *wrap_.tar, trained, data_.forget, step.forget,
                              micro_batches_, derive_seed(seed_, fmt::format("tar {}", number)));
  }
  each_part(step, true, [&](Loss& loss, const ForgetRetainBatch& batch) {
    const at::Tensor on_forget = loss.on_forget();
    if (on_forget.defined()) forget_sum += on_forget.detach();
    if (loss.retain.defined()) {
      retain_sum += loss.retain.detach();
      if (needs_.dual) loss.retain = loss.retain * multiplier;
    }
    if (!wrap_.perturbs()) {
      const at::Tensor total = loss.total();
      must_train(total);
      total.backward();
    } else {
      must_train(on_forget);
      if (wrap_.sam) {
        torch::autograd::variable_list weights;
        for (const auto& [name, value] : trained) weights.push_back(value);
        const auto part = torch::autograd::grad({on_forget}, weights, {}, std::nullopt, false,
                                                /*allow_unused=*/true);
        for (size_t i = 0; i < part.size(); ++i) ascent[i] = sum(ascent[i], part[i]);
      }
      if (loss.retain.defined()) loss.retain.backward();
    }
    // The inputs drop each last token.
    for (const Batch* part : {&batch.forget, &batch.alternative, &batch.retain}) {
      report.tokens += part->tokens() + part->size();
    }
  });
  if (wrap_.perturbs()) {
    perturbed(step, ascent, derive_seed(seed_, fmt::format("perturbation {}", number)));
  }
  for (size_t i = 0; i < tamper.size(); ++i) {
    if (!tamper[i].defined()) continue;
    at::Tensor& gradient = trained[i].second.mutable_grad();
    gradient = gradient.defined() ? gradient.add_(tamper[i]) : tamper[i];
  }
  // One transfer for all three: on a GPU each would wait for the device.
  const at::Tensor values =
      at::stack({forget_sum, retain_sum, optimizer_.gradient_norm()}).to(at::kCPU, at::kDouble);
  report.forget = values[0].item<double>();
  report.retain = values[1].item<double>();
  report.loss = report.forget + (needs_.dual ? multiplier : 1) * report.retain;
  report.gradient_norm = values[2].item<double>();
  return report;
}

void StepGradients::perturbed(const StepExamples& step, const std::vector<at::Tensor>& ascent,
                              uint64_t seed) {
  const NamedTensors& trained = optimizer_.parameters();
  const int64_t samples = wrap_.rs ? wrap_.rs->samples : 1;
  for (int64_t sample = 0; sample < samples; ++sample) {
    const PutBack put_back(trained);
    if (wrap_.sam) step_uphill(trained, ascent, wrap_.sam->rho);
    if (wrap_.rs) {
      add_noise(trained, wrap_.rs->sigma, derive_seed(seed, fmt::format("sample {}", sample)));
    }
    each_part(step, false, [&](const Loss& loss, const ForgetRetainBatch&) {
      (loss.on_forget() / static_cast<double>(samples)).backward();
    });
  }
}

}  // namespace resurface
