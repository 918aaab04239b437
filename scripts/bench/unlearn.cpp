// Times steps of NPO with the reference's log-probs kept against a second model in memory, and of
// RMU, which stops at its block and keeps what does not change, against whole forward passes of two
// models. Each way runs in a process of its own, so that its peak memory is its own, the ways in
// turn; their losses and RMU's gradients must agree. Prints JSON. Run in the repository's root.
// Usage: bench_unlearn MODEL_DIR [ROUNDS] [STEPS] [BATCH]
#include <cstdio>
#include <iostream>
#include <memory>

#include "core/data/suite.h"
#include "core/run/error.h"
#include "core/run/resources.h"
#include "core/tensor/block_cache.h"
#include "unlearning/npo.h"
#include "unlearning/rmu.h"

using namespace resurface;

namespace {

using Json = nlohmann::json;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<Example> examples(const std::filesystem::path& folder, const char* suite,
                              int64_t context, size_t count) {
  std::vector<Example> all;
  const auto tokenizer = Tokenizer::load(folder);
  const auto chat = ChatFormat::load(folder);
  const auto items = load_suite(std::filesystem::path("suites/party_lines") / suite);
  for (auto& probe : make_probes(items, tokenizer, chat, Answer::line, false, context)) {
    all.push_back(std::move(probe.example));
  }
  // Spread over topics and languages.
  std::vector<Example> some;
  for (size_t i = 0; i < count; ++i) some.push_back(all[i * all.size() / count]);
  return some;
}

/// One way of a method: its objective, what the trainer must keep for it, and the second model.
struct Way {
  Objective objective;
  Needs needs;
  std::shared_ptr<Model> second = {};
};

/// As in code that holds a reference model: its forward pass in every step.
Way npo_way(bool slow, const std::filesystem::path& folder, const ModelConfig& config) {
  const NpoSettings settings;
  Way way{.objective = [=](Model& m, const ForgetRetainBatch& b) { return npo(settings, m, b); },
          .needs = settings.needs(config)};
  if (!slow) return way;
  way.needs.reference_logprob = false;
  way.second = std::make_shared<Model>(Model::load(folder));
  way.second->set_compute(at::kFloat);
  way.objective = [settings, second = way.second](Model& model, const ForgetRetainBatch& batch) {
    ForgetRetainBatch with = batch;
    {
      const at::NoGradGuard no_grad;
      with.forget.reference_logprob = second->sequence_logprob(batch.forget);
    }
    return npo(settings, model, with);
  };
  return way;
}

/// The state after the steered block, out of a pass through all blocks and, as models of libraries
/// do unasked, with the logits of every position.
at::Tensor whole_pass(const Model& model, const Batch& batch, int64_t block, bool logits) {
  at::Tensor state;
  HiddenOptions options;
  options.on_block = [&](int64_t layer, const at::Tensor& hidden) {
    if (layer == block) state = hidden.index_select(0, batch.rows);
  };
  const at::Tensor last = model.hidden(batch, options);
  if (logits) model.logits(last);
  return state;
}

Way rmu_way(bool slow, bool logits, const std::filesystem::path& folder,
            const ModelConfig& config) {
  const RmuSettings settings;
  Way way{.objective = [=](Model& m, const ForgetRetainBatch& b) { return rmu(settings, m, b); },
          .needs = settings.needs(config)};
  if (!slow) return way;
  way.needs.retain_block = -1;
  way.needs.frozen_blocks = 0;
  way.second = std::make_shared<Model>(Model::load(folder));
  way.second->set_compute(at::kFloat);
  const int64_t block = settings.block(config);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(settings.seed));
  const at::Tensor u = at::rand({config.hidden_size}, generator);
  const at::Tensor target = settings.steering_coeff * u / u.norm();
  way.objective = [=, second = way.second](Model& model, const ForgetRetainBatch& batch) {
    at::Tensor before;
    {
      const at::NoGradGuard no_grad;
      before = whole_pass(*second, batch.retain, block, logits);
    }
    const auto squared = [](const at::Tensor& gap, const Batch& b) {
      return token_mean(gap.square().mean(-1), b);
    };
    return Loss{
        .forget = settings.forget_weight *
                  squared(whole_pass(model, batch.forget, block, logits) - target, batch.forget),
        .retain = settings.retain_weight *
                  squared(whole_pass(model, batch.retain, block, logits) - before, batch.retain)};
  };
  return way;
}

/// Trains and prints one line: seconds of each step, what came before the first, losses, the first
/// gradient's projection on fixed directions, peak memory.
void run(const std::filesystem::path& folder, const std::string& name, int64_t steps,
         int64_t batch) {
  Model model = Model::load(folder);
  const ModelConfig& config = model.config();
  const Way way = name.starts_with("npo")
                      ? npo_way(name != "npo", folder, config)
                      : rmu_way(name != "rmu", name == "rmu_logits", folder, config);
  const auto forget = examples(folder, "items.jsonl", config.context, 32);
  const auto retain = examples(folder, "retain.jsonl", config.context, 32);
  TrainerSettings settings;
  settings.steps = steps;
  settings.batch_size = batch;
  settings.compute = "fp32";
  settings.clip = 0;
  std::vector<double> seconds, losses, norms;
  Timer timer;
  double before = 0;
  train(model, way.objective, way.needs, {.forget = forget, .retain = retain}, settings, 1,
        {.on_step = [&](const StepReport& report) {
          const double now = timer.seconds();
          seconds.push_back(now - before);
          before = now;
          losses.push_back(report.loss);
          norms.push_back(report.gradient_norm);
          return true;
        }});
  const double first = seconds.front();
  seconds.erase(seconds.begin());
  std::cout << Json{{"first_seconds", first},
                    {"seconds", seconds},
                    {"losses", losses},
                    {"gradient_norms", norms},
                    {"peak_bytes", peak_memory()}}
                   .dump()
            << std::endl;
}

/// Largest difference of RMU's two gradients in a step that has both losses, as a share of the
/// largest entry.
double gradient_difference(const std::filesystem::path& folder, int64_t batch) {
  Model model = Model::load(folder);
  model.set_compute(at::kFloat);
  const ModelConfig& config = model.config();
  const auto forget = examples(folder, "items.jsonl", config.context, static_cast<size_t>(batch));
  const auto retain = examples(folder, "retain.jsonl", config.context, static_cast<size_t>(batch));
  const Way fast = rmu_way(false, false, folder, config);
  const Way slow = rmu_way(true, false, folder, config);
  ForgetRetainBatch both{.forget = pack(std::span<const Example>(forget)),
                         .retain = pack(std::span<const Example>(retain))};
  ForgetRetainBatch kept = both;
  const RmuSettings rmu_settings;
  {
    const at::NoGradGuard no_grad;
    const int64_t first = rmu_settings.first(config);
    for (Batch* part : {&kept.forget, &kept.retain}) {
      part->frozen = model.hidden(*part, {.last = first});
    }
    kept.retain.reference_hidden = model.hidden(
        kept.retain, {.last = rmu_settings.block(config) + 1, .rows = kept.retain.rows});
    // Away from the start, where the retain loss has no gradient.
    at::manual_seed(1);
    for (const std::string& trains : fast.needs.trains) {
      const at::Tensor weight = model.parameter(trains);
      weight.add_(0.01 * weight.abs().mean() * at::randn_like(weight));
    }
  }
  std::vector<at::Tensor> weights;
  for (const std::string& trains : fast.needs.trains) {
    weights.push_back(model.parameter(trains));
    weights.back().set_requires_grad(true);
  }
  double largest = 0, difference = 0;
  const auto ours = torch::autograd::grad({fast.objective(model, kept).total()}, weights);
  const auto theirs = torch::autograd::grad({slow.objective(model, both).total()}, weights);
  for (size_t i = 0; i < weights.size(); ++i) {
    largest = std::max(largest, theirs[i].abs().max().item<double>());
    difference = std::max(difference, (ours[i] - theirs[i]).abs().max().item<double>());
  }
  return difference / largest;
}

/// What a process of this program, run for one way, printed.
Json child(const std::string& arguments) {
  const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto close = [](FILE* pipe) { pclose(pipe); };
  std::unique_ptr<FILE, decltype(close)> pipe(
      popen(fmt::format("'{}' {}", self, arguments).c_str(), "r"), close);
  if (!pipe) fail("{} {}: does not run", self, arguments);
  std::string text;
  for (int c = std::fgetc(pipe.get()); c != EOF; c = std::fgetc(pipe.get())) {
    text += static_cast<char>(c);
  }
  return Json::parse(text);
}

struct Runs {
  std::vector<double> seconds, first;
  std::vector<std::vector<double>> losses;
  double peak = 0;
};

double largest_relative(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]) / std::max(1e-30, std::abs(b[i])));
  }
  return largest;
}

int bench(const std::string& folder, int64_t rounds, int64_t steps, int64_t batch) {
  const std::vector<std::string> ways = {"npo", "npo_second", "rmu", "rmu_whole", "rmu_logits"};
  std::map<std::string, Runs> all;
  for (int64_t round = 0; round < rounds; ++round) {
    for (const std::string& way : ways) {
      const Json done = child(fmt::format("'{}' --way {} {} {}", folder, way, steps, batch));
      Runs& runs = all[way];
      const auto seconds = done.at("seconds").get<std::vector<double>>();
      runs.seconds.insert(runs.seconds.end(), seconds.begin(), seconds.end());
      runs.first.push_back(done.at("first_seconds"));
      runs.losses.push_back(done.at("losses"));
      runs.peak = std::max(runs.peak, done.at("peak_bytes").get<double>());
      std::cerr << fmt::format("round {} of {}: {} {:.2f} s a step\n", round + 1, rounds, way,
                               median(seconds));
    }
  }
  bool same = true;
  Json result;
  for (const auto& [fast, slow, loss_bound] :
       {std::tuple{"npo", "npo_second", 1e-5}, std::tuple{"rmu", "rmu_whole", 1e-4},
        std::tuple{"rmu", "rmu_logits", 1e-4}}) {
    const Runs &ours = all[fast], &theirs = all[slow];
    const double difference = largest_relative(ours.losses[0], theirs.losses[0]);
    const double ahead = median(ours.first) - median(ours.seconds);
    result[slow] = {{"step_seconds", median(ours.seconds)},
                    {"other_step_seconds", median(theirs.seconds)},
                    {"ratio", median(theirs.seconds) / median(ours.seconds)},
                    {"seconds_before_the_first_step", ahead},
                    {"peak_mb", ours.peak / 1e6},
                    {"other_peak_mb", theirs.peak / 1e6},
                    {"peak_ratio", theirs.peak / ours.peak},
                    {"largest_relative_loss_difference", difference}};
    same = same && difference <= loss_bound;
  }
  const double gradient = gradient_difference(folder, batch);
  result["rmu_largest_gradient_difference"] = gradient;
  std::cout << result.dump(2) << "\n";
  return same && gradient <= 1e-4 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  resurface::keep_tensor_memory();
  const std::vector<std::string> given(arguments + 1, arguments + count);
  const auto number = [&](size_t at, int64_t standard) {
    return at < given.size() ? std::stoll(given[at]) : standard;
  };
  try {
    if (given.empty()) fail("usage: bench_unlearn MODEL_DIR [ROUNDS] [STEPS] [BATCH]");
    if (given.size() == 5 && given[1] == "--way") {
      run(given[0], given[2], number(3, 0), number(4, 0));
      return 0;
    }
    return bench(given[0], number(1, 2), number(2, 5), number(3, 8));
  } catch (const std::exception& error) {
    std::cerr << "bench_unlearn: " << error.what() << "\n";
    return 1;
  }
}
