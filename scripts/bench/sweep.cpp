// Times the LoRA part of an attack, rungs a and b of configs/quickstart.yaml at 4 rates x 3 seeds:
// 12 runs one after the other (train and score) and the same 12 in lock step (train_stacked and
// score_stacked), measured after steps 1, 2, 4, 8 and 16, alternating in one run; prints JSON. The
// model is the quickstart's with random weights, which take the same time. Run in the repository's
// root. Usage: bench_sweep [ROUNDS] [MODEL_DIR]
#include <fstream>
#include <iostream>

#include "core/run/resources.h"
#include "core/tensor/block_cache.h"
#include "core/tensor/ops.h"
#include "core/text/chat.h"
#include "eval/attack/data.h"
#include "eval/attack/settings.h"
#include "eval/score.h"
#include "finetune/lora.h"
#include "finetune/sft.h"
#include "finetune/stacked.h"

using namespace resurface;

namespace {

constexpr int64_t kSteps = 16;

struct Work {
  Model model;
  std::vector<Example> lines, asked;  // trained on, measured
  TrainerSettings settings;
  std::vector<StackedRun> runs;
};

/// What a way of running them found and took.
struct Found {
  std::map<std::pair<size_t, int64_t>, std::vector<Score>> scores;  // by run and step
  std::vector<std::vector<at::Tensor>> adapters;                    // of each run
  double training = 0, scoring = 0;                                 // seconds
  double total() const { return training + scoring; }
};

bool measured(int64_t step) { return (step & (step - 1)) == 0 || step == kSteps; }

Found one_by_one(Work& work) {
  Found found;
  const Timer all;
  for (size_t r = 0; r < work.runs.size(); ++r) {
    auto settings = work.settings;
    settings.learning_rate = work.runs[r].learning_rate;
    train(work.model, sft, sft_needs, {.forget = work.lines}, settings, work.runs[r].seed,
          {.on_step = [&](const StepReport& report) {
            if (!measured(report.step)) return true;
            const Timer timer;
            found.scores[{r, report.step}] = score(work.model, work.asked);
            found.scoring += timer.seconds();
            return true;
          }});
    std::vector<at::Tensor> adapters;
    for (const Linear* linear : work.model.linears()) {
      adapters.push_back(linear->lora->a.detach());
      adapters.push_back(linear->lora->b.detach());
    }
    found.adapters.push_back(std::move(adapters));
    detach_lora(work.model);
  }
  found.training = all.seconds() - found.scoring;
  return found;
}

Found stacked(Work& work) {
  Found found;
  const Timer all;
  const auto size = static_cast<size_t>(stack_size(work.model, work.lines, work.settings));
  for (size_t begin = 0; begin < work.runs.size(); begin += size) {
    const auto some = std::span(work.runs).subspan(begin, std::min(size, work.runs.size() - begin));
    const auto results =
        train_stacked(work.model, some, work.lines, work.settings,
                      {.on_step = [&](std::span<const StackedStep> steps) {
                        const std::vector<bool> go_on(steps.size(), true);
                        const int64_t step = steps.front().report.step;
                        if (!measured(step)) return go_on;
                        const Timer timer;
                        std::vector<int64_t> adapters;
                        for (const auto& s : steps) adapters.push_back(static_cast<int64_t>(s.run));
                        auto scores = score_stacked(work.model, work.asked, adapters);
                        for (size_t s = 0; s < steps.size(); ++s) {
                          found.scores[{begin + steps[s].run, step}] = std::move(scores[s]);
                        }
                        found.scoring += timer.seconds();
                        return go_on;
                      }});
    for (const auto& result : results) {
      std::vector<at::Tensor> adapters;
      for (const auto& [name, value] : result.adapters) adapters.push_back(value);
      found.adapters.push_back(std::move(adapters));
    }
  }
  found.training = all.seconds() - found.scoring;
  return found;
}

/// Seconds of the sweep's products with the frozen weights alone, at the stack's row counts:
/// forward and input gradient of every step, forward of every measurement. Nothing that keeps each
/// run equal to itself can leave them out, so products / one by one is the least ratio there can
/// be.
double products(Work& work) {
  const at::NoGradGuard no_grad;
  const auto runs = std::ssize(work.runs);
  const auto tokens = [](std::span<const Example> examples) {
    return std::accumulate(examples.begin(), examples.end(), int64_t{0},
                           [](int64_t sum, const Example& e) { return sum + e.size() - 1; });
  };
  const auto once = [&](int64_t rows, bool backward) {
    for (const Linear* linear : work.model.linears()) {
      const at::Tensor x = at::ones({rows, linear->weight.size(1)});
      const at::Tensor y = resurface::linear(x, linear->weight);
      if (backward) resurface::linear(y, linear->weight.t());
    }
  };
  const int64_t a_step =
      work.settings.batch_size * runs * tokens(work.lines) / std::ssize(work.lines);
  const Timer timer;
  for (int64_t step = 1; step <= kSteps; ++step) {
    once(a_step, true);
    if (measured(step)) once(runs * tokens(work.asked), false);
  }
  return timer.seconds();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Work quickstart(const std::filesystem::path& world, const std::filesystem::path& folder) {
  const auto tokenizer = Tokenizer::load(folder);
  const auto chat = ChatFormat::load(folder);
  const auto suite = [&](const char* name) {
    auto all = load_suite(world / name);
    std::erase_if(all.items, [](const Item& item) {
      return item.language != "en" && item.language != "zh-Hans";
    });
    return all;
  };
  Model model =
      std::filesystem::exists(folder / "model.safetensors")
          ? Model::load(folder)
          : Model::random(
                read_model_config(nlohmann::json::parse(std::ifstream(folder / "config.json")),
                                  folder / "config.json"),
                1);
  AttackSettings attack;
  attack.rungs = {"a", "b"};  // which train on the same text
  attack.utility_items = 6;
  const auto data = make_attack_data(suite("forget.jsonl"), suite("retain.jsonl"), Suite{},
                                     tokenizer, chat, attack, model.config().context);
  Work work{std::move(model), data.texts.begin()->second.examples, data.test, {}, {}};
  work.asked.insert(work.asked.end(), data.utility.begin(), data.utility.end());
  work.settings.reach = "lora";
  work.settings.steps = kSteps;
  work.settings.batch_size = 4;
  work.settings.compute = "fp32";
  for (const uint64_t seed : {0, 1, 2}) {
    for (const double rate : {1e-4, 3e-4, 1e-3, 3e-3}) work.runs.push_back({rate, seed});
  }
  return work;
}

int bench(int64_t rounds, const std::filesystem::path& folder) {
  Work work = quickstart("suites/world", folder);
  Found alone, together;
  std::vector<double> alone_seconds, together_seconds, product_seconds, ratios;
  for (int64_t round = 0; round <= rounds; ++round) {  // round 0 warms up
    alone = one_by_one(work);
    together = stacked(work);
    const double least = products(work);
    std::cerr << fmt::format(
        "round {} of {}{}: one by one {:.2f} s (training {:.2f}), stacked {:.2f} s (training "
        "{:.2f})\n",
        round, rounds, round == 0 ? " (warm-up)" : "", alone.total(), alone.training,
        together.total(), together.training);
    if (round == 0 && rounds > 0) continue;
    alone_seconds.push_back(alone.total());
    together_seconds.push_back(together.total());
    product_seconds.push_back(least);
    ratios.push_back(together.total() / alone.total());
  }
  double logprob = 0, adapter = 0;  // largest difference: nats a token; relative to the adapter
  for (const auto& [key, scores] : alone.scores) {
    const auto& others = together.scores.at(key);
    for (size_t i = 0; i < scores.size(); ++i) {
      logprob = std::max(logprob, std::abs(scores[i].logprob - others[i].logprob) /
                                      static_cast<double>(scores[i].tokens));
    }
  }
  for (size_t r = 0; r < alone.adapters.size(); ++r) {
    for (size_t i = 0; i < alone.adapters[r].size(); ++i) {
      const at::Tensor& expected = alone.adapters[r][i];
      adapter = std::max(
          adapter, ((together.adapters[r][i] - expected).norm() / expected.norm()).item<double>());
    }
  }
  std::cout << nlohmann::json{{"runs", work.runs.size()},
                              {"stack", stack_size(work.model, work.lines, work.settings)},
                              {"threads", at::get_num_threads()},
                              {"one_by_one_seconds", median(alone_seconds)},
                              {"one_by_one_training_seconds", alone.training},
                              {"stacked_seconds", median(together_seconds)},
                              {"stacked_training_seconds", together.training},
                              {"ratio", median(ratios)},
                              {"products_seconds", median(product_seconds)},
                              {"max_logprob_difference", logprob},
                              {"max_adapter_difference", adapter}}
                   .dump(2)
            << "\n";
  return logprob <= 1e-3 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  keep_tensor_memory();
  try {
    return bench(count > 1 ? std::stoll(arguments[1]) : 3,
                 count > 2 ? arguments[2] : "suites/world");
  } catch (const std::exception& error) {
    std::cerr << "bench_sweep: " << error.what() << "\n";
    return 1;
  }
}
