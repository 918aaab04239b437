#include "finetune/stacked.h"

#include <cmath>

#include "core/run/device.h"
#include "core/run/error.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/run/resources.h"
#include "finetune/lora.h"
#include "finetune/optimizers.h"
#include "finetune/sampler.h"

namespace resurface {
namespace {

/// Puts a model's switches back and takes adapters off when it goes out of scope.
class TrainingMode {
 public:
  TrainingMode(Model& model, const TrainerSettings& settings)
      : model_(model), compute_(model.compute()) {
    model.set_compute(parse_compute_dtype(settings.compute, model.device()));
    model.set_checkpointing(settings.checkpointing);
  }
  TrainingMode(const TrainingMode&) = delete;
  TrainingMode& operator=(const TrainingMode&) = delete;
  ~TrainingMode() {
    detach_lora(model_);
    model_.set_checkpointing(false);
    model_.set_compute(compute_);
  }

 private:
  Model& model_;
  at::ScalarType compute_;
};

/// The stacked adapters on the model, and an optimiser for each of the stack.
class Stack {
 public:
  Stack(Model& model, std::span<const StackedRun> runs, const TrainerSettings& settings) {
    const auto linears = model.linears();
    std::vector<std::vector<at::Tensor>> a(linears.size()), b(linears.size());
    double scale = 1;
    for (const StackedRun& run : runs) {
      attach_lora(model, settings.lora, run.seed);
      for (size_t l = 0; l < linears.size(); ++l) {
        a[l].push_back(linears[l]->lora->a.detach());
        b[l].push_back(linears[l]->lora->b.detach());
        scale = linears[l]->lora->scale;
      }
      detach_lora(model);
    }
    std::vector<NamedTensors> own(runs.size());
    for (size_t l = 0; l < linears.size(); ++l) {
      LoraPair pair{.a = at::stack(a[l]), .b = at::stack(b[l]), .scale = scale};
      a[l].clear();
      b[l].clear();
      for (const auto& [suffix, tensor] :
           {std::pair{".lora_A", pair.a}, std::pair{".lora_B", pair.b}}) {
        // Views of the stack: what the optimisers write is what the model reads.
        for (size_t r = 0; r < runs.size(); ++r) {
          own[r].emplace_back(linears[l]->name + suffix,
                              tensor.detach().select(0, static_cast<int64_t>(r)));
        }
        leaves_.push_back(tensor);
      }
      linears[l]->lora = std::move(pair);
    }
    for (const at::Tensor& leaf : leaves_) leaf.set_requires_grad(true);
    for (NamedTensors& parameters : own) {
      optimizers_.push_back(make_optimizer(std::move(parameters), settings));
    }
  }

  /// The optimiser of a run, its gradients those of the last backward pass.
  Optimizer& with_gradients(size_t run) {
    Optimizer& optimizer = *optimizers_[run];
    for (size_t i = 0; i < leaves_.size(); ++i) {
      optimizer.parameters()[i].second.mutable_grad() =
          leaves_[i].grad().select(0, static_cast<int64_t>(run));
    }
    return optimizer;
  }

  void clear_gradients() {
    for (const auto& optimizer : optimizers_) optimizer->clear_gradients();
    for (const at::Tensor& leaf : leaves_) leaf.mutable_grad().reset();
  }

  NamedTensors adapters(size_t run) const {
    NamedTensors copies;
    for (const auto& [name, value] : optimizers_[run]->parameters()) {
      copies.emplace_back(name, value.clone());
    }
    return copies;
  }

 private:
  std::vector<at::Tensor> leaves_;                      // A and B of each layer
  std::vector<std::unique_ptr<Optimizer>> optimizers_;  // of each run
};

/// The examples of a step, of one run.
struct Share {
  size_t run = 0;
  std::vector<const Example*> examples;
  StackedStep step;
  double weight = 0;  // what the mean over its answer tokens divides by
};

/// FLOPs of one run's part of a step, by the rules of Model::flops.
double own_flops(Model& model, std::span<const Example* const> examples) {
  const ModelConfig& config = model.config();
  double rows = 0, scored = 0, pairs = 0;
  for (const Example* example : examples) {
    const auto length = static_cast<double>(example->size() - 1);  // the last token is no input
    rows += length;
    scored += static_cast<double>(example->answer.size());
    pairs += length * (length + 1) / 2;
  }
  double flops =
      3 * 2 * pairs *
      static_cast<double>(config.layers * config.heads * (config.key_dims() + config.value_dims()));
  for (int64_t l = 0; l < config.layers; ++l) {
    Block& block = model.block(l);
    for (const Linear* linear : block.linears()) {
      const bool reads_all = linear == &block.q || linear == &block.k || linear == &block.v;
      double n = l + 1 == config.layers && !reads_all ? scored : rows;
      if (linear->name.find(".mlp.experts.") != std::string::npos) {  // as many as a token uses
        n *= static_cast<double>(config.experts->per_token) /
             static_cast<double>(config.experts->count);
      }
      // Nothing before the first block trains: its projections' inputs get no gradient.
      flops += 2 * n * static_cast<double>(linear->weight.numel()) * (l == 0 && reads_all ? 1 : 2);
      const auto adapter = linear->lora->a[0].numel() + linear->lora->b[0].numel();
      flops += 3 * 2 * n * static_cast<double>(adapter);
    }
  }
  return flops + 2 * 2 * scored * static_cast<double>(config.vocab_size * config.hidden_size);
}

/// Forward and backward of all shares; the loss of each, [shares] on the model's device.
at::Tensor backward(Model& model, std::span<const Share> shares, size_t runs) {
  std::vector<const Example*> all;
  std::vector<int64_t> sequences(runs, 0), share_of;
  std::vector<float> weights;
  for (size_t s = 0; s < shares.size(); ++s) {
    sequences[shares[s].run] = std::ssize(shares[s].examples);
    for (const Example* example : shares[s].examples) {
      all.push_back(example);
      share_of.push_back(static_cast<int64_t>(s));
      weights.push_back(static_cast<float>(example->weight / shares[s].weight));
    }
  }
  Batch batch = pack(std::span<const Example* const>(all), model.device());
  assign_adapters(batch, sequences);
  const at::Tensor tokens = model.token_logprob(batch);
  const at::Tensor weight = at::tensor(at::ArrayRef<float>(weights)).to(tokens.options());
  const at::Tensor index = at::tensor(at::IntArrayRef(share_of)).to(model.device());
  const at::Tensor losses = at::zeros({std::ssize(shares)}, tokens.options())
                                .index_add(0, index.index_select(0, batch.sequence),
                                           -tokens * weight.index_select(0, batch.sequence));
  losses.sum().backward();
  return losses.detach();
}

}  // namespace

int64_t stack_size(const Model& model, std::span<const Example> examples,
                   const TrainerSettings& settings) {
  if (settings.lora.variant == "dora") return 1;
  constexpr double kBytes = double{1 << 30};
  const ModelConfig& config = model.config();
  double tokens = 0, answers = 0;
  for (const Example& example : examples) {
    tokens += static_cast<double>(example.size());
    answers += static_cast<double>(example.answer.size());
  }
  const auto count = static_cast<double>(std::max<size_t>(examples.size(), 1));
  const double batch = settings.batch_tokens > 0
                           ? static_cast<double>(settings.batch_tokens)
                           : static_cast<double>(settings.batch_size) * tokens / count;
  // What the graph keeps of a token: some eight states and four rows of the MLP a block, in fp32;
  // of an answer token also its logits and their gradient.
  const double a_token =
      4.0 * static_cast<double>(config.layers *
                                (8 * config.hidden_size + 4 * config.intermediate_size)) +
      3 * 4.0 * static_cast<double>(config.vocab_size) * answers / std::max(tokens, 1.0);
  return std::max<int64_t>(1, static_cast<int64_t>(kBytes / std::max(batch * a_token, 1.0)));
}

std::vector<StackedResult> train_stacked(Model& model, std::span<const StackedRun> runs,
                                         std::span<const Example> examples,
                                         const TrainerSettings& settings,
                                         const StackedHooks& hooks) {
  for (const Linear* linear : model.linears()) {
    if (linear->lora) fail("stacked training: {} has an adapter already", linear->name);
  }
  if (settings.lora.variant == "dora") fail("stacked training: DoRA's adapters do not stack");
  if (settings.optimizer == "muonclip") fail("stacked training: muonclip needs reach 'full'");
  std::vector<StackedResult> results(runs.size());
  if (runs.empty()) return results;
  std::vector<std::span<const Example>> texts;
  std::vector<Sampler> samplers;
  std::vector<TrainerSettings> own(runs.size(), settings);
  std::vector<int64_t> totals;
  std::vector<size_t> active(runs.size());
  std::iota(active.begin(), active.end(), size_t{0});
  for (size_t r = 0; r < runs.size(); ++r) {
    const auto text = runs[r].examples.empty() ? examples : runs[r].examples;
    check_examples("training", text, model.config().context);
    own[r].learning_rate = runs[r].learning_rate;
    if (!runs[r].schedule.empty()) own[r].schedule = runs[r].schedule;
    texts.push_back(text);
    samplers.emplace_back(TrainData{.forget = text}, own[r], false, runs[r].seed);
    totals.push_back(samplers[r].total_steps());
  }
  const TrainingMode mode(model, settings);
  Stack stack(model, runs, settings);
  Progress progress(hooks.label, *std::max_element(totals.begin(), totals.end()), "steps");

  for (int64_t number = 1; !active.empty(); ++number) {
    const Timer timer;
    std::vector<Share> shares;
    for (const size_t r : active) {
      Share share{.run = r, .examples = {}, .step = {.run = r}};
      share.step.report.step = number;
      for (const int64_t index : samplers[r].next().forget) {
        const Example& example = texts[r][static_cast<size_t>(index)];
        share.examples.push_back(&example);
        share.weight += example.weight * static_cast<double>(example.answer.size());
        share.step.scored += std::ssize(example.answer);
        share.step.report.tokens += example.size();
      }
      share.step.examples = std::ssize(share.examples);
      share.step.flops = own_flops(model, share.examples);
      shares.push_back(std::move(share));
    }
    const at::Tensor losses = backward(model, shares, runs.size());

    std::vector<at::Tensor> norms;
    for (const size_t r : active) norms.push_back(stack.with_gradients(r).gradient_norm());
    const at::Tensor found = at::stack({losses.to(at::kFloat), at::stack(norms).to(at::kFloat)})
                                 .to(at::kCPU, at::kDouble);
    std::vector<StackedStep> steps;
    std::vector<size_t> left;
    for (size_t s = 0; s < shares.size(); ++s) {
      const size_t r = shares[s].run;
      StackedStep& step = shares[s].step;
      TrainResult& result = results[r].train;
      const auto place = static_cast<int64_t>(s);
      step.report.loss = step.report.forget = found[0][place].item<double>();
      step.report.gradient_norm = found[1][place].item<double>();
      step.report.learning_rate = learning_rate_at(own[r], number, totals[r]);
      if (!std::isfinite(step.report.loss) || !std::isfinite(step.report.gradient_norm)) {
        result.stopped = "diverged";
        continue;
      }
      const bool clips = settings.clip > 0 && step.report.gradient_norm > settings.clip;
      Optimizer& optimizer = stack.with_gradients(r);
      const double before = optimizer.flops();
      optimizer.step(step.report.learning_rate,
                     clips ? step.report.gradient_norm / settings.clip : 1);
      step.flops += optimizer.flops() - before;
      result.steps = number;
      result.tokens += step.report.tokens;
      result.flops += step.flops;
      result.last_loss = step.report.loss;
      if (settings.stop_below != 0 && step.report.loss < settings.stop_below) {
        result.stopped = "early";
      } else if (number == totals[r]) {
        result.stopped = "done";
      }
      steps.push_back(step);
    }
    stack.clear_gradients();
    const double seconds = timer.seconds() / static_cast<double>(shares.size());
    for (const Share& share : shares) results[share.run].train.seconds += seconds;

    progress.at(number, fmt::format("{} runs", steps.size()));
    if (hooks.on_step && !steps.empty()) {
      const auto go_on = hooks.on_step(steps);
      for (size_t s = 0; s < steps.size(); ++s) {
        if (!go_on.at(s)) results[steps[s].run].train.stopped = "callback";
      }
    }
    check_interrupted();
    std::erase_if(active, [&](size_t r) { return !results[r].train.stopped.empty(); });
  }
  for (size_t r = 0; r < runs.size(); ++r) results[r].adapters = stack.adapters(r);
  return results;
}

}  // namespace resurface
