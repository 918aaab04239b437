#include "eval/attack/relearn.h"

#include <cmath>
#include <random>
#include <set>

#include "core/run/error.h"
#include "finetune/lora.h"
#include "finetune/sft.h"
#include "finetune/stacked.h"

namespace resurface {
namespace {

// What one measurement found, before it is written as rows of one or two rungs.
struct Snapshot {
  int64_t step = 0, tokens = 0, examples = 0;
  double flops = 0;
  LineScores scores;
};

// The weights before the attack; puts them back, and takes adapters off, when it goes out of scope.
class Restore {
 public:
  Restore(Model& model, bool full) : model_(model), compute_(model.compute()) {
    if (!full) return;
    for (const auto& [name, tensor] : model.parameters()) start_.push_back(tensor.detach().clone());
  }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;
  ~Restore() { now(); }

  void now() {
    at::NoGradGuard no_grad;
    detach_lora(model_);
    model_.set_compute(compute_);
    for (size_t i = 0; i < start_.size(); ++i) model_.parameters()[i].second.copy_(start_[i]);
  }

 private:
  Model& model_;
  at::ScalarType compute_;
  std::vector<at::Tensor> start_;
};

struct Run {
  std::vector<Snapshot> snapshots;
  bool diverged = false;  // stopped after the last of them: no longer finite
};

// One training run and the rungs it is written for.
struct Job {
  std::vector<Rung> rungs;  // of one text
  std::string reach;
  Rate rate;
  int64_t seed = 0;
  const AttackData* data = nullptr;  // of its fold
  int64_t fold = 0;                  // of the rows: 0 where the text is the same in every fold

  RunKey key(const std::string& rung) const {
    return {rung, reach, rate.schedule, rate.learning_rate, seed, fold};
  }
  RunKey key(const Rung& rung) const { return key(rung.name()); }
};

class Attack {
 public:
  Attack(Model& model, const std::string& name, std::span<const AttackData> folds,
         const AttackSettings& settings, const std::vector<AttackRow>& done,
         const AttackHooks& hooks)
      : model_(model),
        name_(name),
        folds_(folds),
        settings_(settings),
        hooks_(hooks),
        rungs_(parse_rungs(settings.rungs)) {
    std::vector<AttackRow> own;
    std::copy_if(done.begin(), done.end(), std::back_inserter(own),
                 [&](const AttackRow& row) { return row.model == name; });
    for (auto& row : finished_rows(std::move(own))) runs_[key_of(row)].push_back(std::move(row));
  }

  std::vector<AttackRow> all() {
    std::map<std::string, std::vector<Rung>> texts;
    for (const Rung& rung : rungs_) texts[rung.text()].push_back(rung);
    for (const auto& reach : settings_.reach)
      for (const auto& [text, rungs] : texts) grid(rungs, reach);
    if (runs_.empty()) start(folds_.front());
    std::vector<AttackRow> rows;
    for (const auto& [key, of_run] : runs_) rows.insert(rows.end(), of_run.begin(), of_run.end());
    return rows;
  }

 private:
  // All runs of rungs that train on the same text, with one reach.
  void grid(const std::vector<Rung>& rungs, const std::string& reach) {
    std::vector<Rate> rates;
    for (const double rate : reach == "full" ? settings_.rates_full : settings_.rates_lora)
      for (const auto& schedule : settings_.schedules) rates.push_back({rate, schedule});
    const bool thinned = settings_.pick_rate_on_first_seed && rates.size() > 1;
    const auto folds = rungs.front().trains_on_lines() ? folds_ : folds_.first(1);
    std::vector<std::vector<Job>> jobs(folds.size());
    const auto run_all = [&] {
      for (auto& of_fold : jobs) run(std::exchange(of_fold, {}));
    };
    for (const auto seed : settings_.seeds) {
      const bool first = seed == settings_.seeds.front();
      for (size_t f = 0; f < folds.size(); ++f) {
        for (const Rate& rate : rates) {
          Job job{{}, reach, rate, seed, &folds[f], fold_of(rungs.front(), folds[f])};
          for (const Rung& rung : rungs) {
            if (thinned && !first && picked(rung, reach, rates, folds) != rate) continue;
            if (!runs_.contains(job.key(rung))) job.rungs.push_back(rung);
          }
          if (!job.rungs.empty()) jobs[f].push_back(std::move(job));
        }
      }
      if (thinned && first) run_all();  // the other seeds need its results
    }
    run_all();
  }

  static int64_t fold_of(const Rung& rung, const AttackData& data) {
    return rung.trains_on_lines() ? data.fold : 0;
  }

  // Runs of one fold. Those of adapters go in lock step where a model is small enough to gain by
  // it.
  void run(const std::vector<Job>& jobs) {
    if (jobs.empty()) return;
    start(*jobs.front().data);
    size_t at_once = 1;
    if (jobs.front().reach == "lora") {
      const auto text = examples_of(jobs.front());
      at_once = static_cast<size_t>(
          stack_size(model_, text, trainer_settings(jobs.front(), std::ssize(text))));
    }
    for (size_t begin = 0; begin < jobs.size(); begin += at_once) {
      const auto some = std::span(jobs).subspan(begin, std::min(at_once, jobs.size() - begin));
      const auto runs = some.size() == 1 ? std::vector<Run>{train_and_measure(some[0])}
                                         : train_and_measure_stack(some);
      for (size_t i = 0; i < some.size(); ++i)
        for (const auto& rung : some[i].rungs) keep(rung.name(), some[i], runs[i]);
    }
  }

  Rate picked(const Rung& rung, const std::string& reach, const std::vector<Rate>& rates,
              std::span<const AttackData> folds) const {
    std::vector<AttackRow> rows;
    for (const Rate& rate : rates) {
      for (const AttackData& data : folds) {
        const Job job{{}, reach, rate, settings_.seeds.front(), &data, fold_of(rung, data)};
        const auto& run = runs_.at(job.key(rung));
        rows.insert(rows.end(), run.begin(), run.end());
      }
    }
    return pick_rate(rows);
  }

  // The state before any attack, measured once a model: all folds ask the same.
  void start(const AttackData& data) {
    if (start_) return;
    start_ = measure(data, {{'a', ""}, {'b', ""}});
    const Job before{{}, "none", {0, "none"}, 0, &data, 0};
    if (!runs_.contains(before.key("none"))) keep("none", before, {{*start_}});
  }

  static auto tested_by(const std::vector<Rung>& rungs) {
    return [&rungs](const TestLine& line) {
      return std::any_of(rungs.begin(), rungs.end(), [&](const Rung& r) { return r.tests(line); });
    };
  }

  Snapshot measure(const AttackData& data, const std::vector<Rung>& rungs) const {
    return {.scores = score_lines(model_, data, tested_by(rungs), settings_.score_tokens)};
  }

  double utility(const Snapshot& snapshot) const {
    return std::exp(snapshot.scores.retain_logprob - start_->scores.retain_logprob);
  }

  int64_t steps_of(int64_t examples) const {
    if (settings_.epochs == 0) return settings_.steps;
    const int64_t batch = std::min(settings_.batch_size, examples);
    return settings_.epochs * ((examples + batch - 1) / batch);
  }

  // The attacker's examples: all of the text, or as many as he has, drawn by the run's seed.
  std::vector<Example> examples_of(const Job& job) const {
    std::vector<Example> all = job.data->texts.at(job.rungs.front().text()).examples;
    const auto wanted = static_cast<size_t>(settings_.examples);
    if (wanted == 0 || wanted >= all.size()) return all;
    std::mt19937_64 random(static_cast<uint64_t>(job.seed));
    for (size_t i = 0; i < wanted; ++i) std::swap(all[i], all[i + random() % (all.size() - i)]);
    all.resize(wanted);
    return all;
  }

  // Whether a step of `last` is measured: 1, 2, 4, 8, ..., the last and those asked for.
  bool measured(int64_t step, int64_t last) const {
    return (step & (step - 1)) == 0 || step == last ||
           (settings_.measure_every > 0 && step % settings_.measure_every == 0);
  }

  TrainerSettings trainer_settings(const Job& job, int64_t examples) const {
    TrainerSettings s;
    s.reach = job.reach;
    s.lora = settings_.lora;
    s.learning_rate = job.rate.learning_rate;
    s.schedule = job.rate.schedule;
    s.warmup = settings_.warmup;
    s.weight_decay = settings_.weight_decay;
    s.optimizer = settings_.optimizer;
    s.steps = steps_of(examples);
    s.batch_size = settings_.batch_size;
    s.clip = settings_.clip;
    s.compute = settings_.compute;
    return s;
  }

  Run train_and_measure(const Job& job) {
    const auto text = examples_of(job);
    const auto trainer = trainer_settings(job, std::ssize(text));
    const auto compute = model_.compute();  // all measurements in the precision of step 0
    Restore restore(model_, job.reach == "full");
    Run run;
    int64_t examples = 0, tokens = 0;
    double flops = 0, counted = 0;

    const Objective counted_sft = [&](Model& model, const ForgetRetainBatch& batch) {
      examples += batch.forget.size();
      tokens += batch.forget.scored();
      return sft(model, batch);
    };
    TrainHooks hooks;
    if (!hooks_.label.empty())
      hooks.label = fmt::format("{}: {} rung {}{} {} rate {:g} seed {}", hooks_.label, name_,
                                names_of(job.rungs), fold_name(job), job.reach,
                                job.rate.learning_rate, job.seed);
    hooks.on_step = [&](const StepReport& report) {
      flops += model_.flops().total() - counted;
      if (measured(report.step, trainer.steps)) {
        const auto training_compute = model_.compute();
        model_.set_compute(compute);
        auto snapshot = measure(*job.data, job.rungs);
        model_.set_compute(training_compute);
        snapshot.step = report.step;
        snapshot.tokens = tokens;
        snapshot.examples = examples;
        snapshot.flops = flops;
        run.snapshots.push_back(std::move(snapshot));
      }
      counted = model_.flops().total();
      if (run.snapshots.empty()) return true;
      const double left = utility(run.snapshots.back());
      run.diverged = !std::isfinite(left);
      return left >= settings_.utility_bound;  // false, too, for what is not a number
    };

    model_.reset_flops();
    try {
      train(model_, counted_sft, sft_needs, {.forget = text, .retain = {}}, trainer,
            static_cast<uint64_t>(job.seed), hooks);
    } catch (const Interrupted&) {
      throw;
    } catch (const Error&) {
      // The trainer stops at a loss or gradient that is not finite. That is a result of this rate,
      // so the run keeps what it measured; anything that fails before the first measurement is a
      // fault.
      if (run.snapshots.empty()) throw;
      run.diverged = true;
    }
    return run;
  }

  // The same for runs of one fold that train adapters, in lock step.
  std::vector<Run> train_and_measure_stack(std::span<const Job> jobs) {
    const AttackData& data = *jobs.front().data;
    std::vector<std::vector<Example>> texts;
    for (const Job& job : jobs) texts.push_back(examples_of(job));
    const auto trainer = trainer_settings(jobs.front(), std::ssize(texts.front()));
    std::vector<StackedRun> stack;
    std::vector<Rung> rungs;
    for (size_t i = 0; i < jobs.size(); ++i) {
      stack.push_back({.learning_rate = jobs[i].rate.learning_rate,
                       .seed = static_cast<uint64_t>(jobs[i].seed),
                       .schedule = jobs[i].rate.schedule,
                       .examples = texts[i]});
      rungs.insert(rungs.end(), jobs[i].rungs.begin(), jobs[i].rungs.end());
    }
    const auto compute = model_.compute();  // all measurements in the precision of step 0
    Restore restore(model_, false);
    std::vector<Run> runs(jobs.size());
    std::vector<Snapshot> so_far(jobs.size());

    StackedHooks hooks;
    if (!hooks_.label.empty())
      hooks.label = fmt::format("{}: {} rung {}{} lora, {} runs at once", hooks_.label, name_,
                                names_of(jobs.front().rungs), fold_name(jobs.front()), jobs.size());
    hooks.on_step = [&](std::span<const StackedStep> steps) {
      for (const StackedStep& step : steps) {
        Snapshot& sum = so_far[step.run];
        sum.step = step.report.step;
        sum.tokens += step.scored;
        sum.examples += step.examples;
        sum.flops += step.flops;
      }
      std::vector<bool> go_on(steps.size(), true);
      if (!measured(steps.front().report.step, trainer.steps)) return go_on;
      std::vector<int64_t> adapters;
      for (const StackedStep& step : steps) adapters.push_back(static_cast<int64_t>(step.run));
      const auto training_compute = model_.compute();
      model_.set_compute(compute);
      auto scores =
          score_lines_stacked(model_, data, tested_by(rungs), adapters, settings_.score_tokens);
      model_.set_compute(training_compute);
      for (size_t i = 0; i < steps.size(); ++i) {
        Run& run = runs[steps[i].run];
        run.snapshots.push_back(so_far[steps[i].run]);
        run.snapshots.back().scores = std::move(scores[i]);
        const double left = utility(run.snapshots.back());
        run.diverged = !std::isfinite(left);
        go_on[i] = left >= settings_.utility_bound;  // false, too, for what is not a number
      }
      return go_on;
    };
    const auto results = train_stacked(model_, stack, texts.front(), trainer, hooks);
    for (size_t i = 0; i < runs.size(); ++i) {
      if (results[i].train.stopped != "diverged") continue;
      if (runs[i].snapshots.empty())
        fail("attack: {}, rate {:g}: the loss is not finite in the first step", name_,
             jobs[i].rate.learning_rate);
      runs[i].diverged = true;
    }
    return runs;
  }

  static std::string names_of(const std::vector<Rung>& rungs) {
    std::string names;
    for (const Rung& rung : rungs) names += (names.empty() ? "" : "+") + rung.name();
    return names;
  }

  static std::string fold_name(const Job& job) {
    return job.fold > 0 ? fmt::format(" fold {}", job.fold) : "";
  }

  // Writes one run of one rung; "none" is the state before any.
  void keep(const std::string& rung, const Job& job, const Run& run) {
    std::vector<AttackRow> rows;
    for (const auto& snapshot : run.snapshots) {
      const double utility = this->utility(snapshot);
      for (size_t i = 0; i < job.data->tested.size(); ++i) {
        const auto& line = job.data->tested[i];
        if (rung != "none" && !parse_rung(rung).tests(line)) continue;
        AttackRow row = snapshot.scores.lines[i];
        row.model = name_;
        row.rung = rung;
        row.reach = job.reach;
        row.schedule = job.rate.schedule;
        row.learning_rate = job.rate.learning_rate;
        row.seed = job.seed;
        row.fold = job.fold;
        row.step = snapshot.step;
        row.tokens = snapshot.tokens;
        row.examples = snapshot.examples;
        row.flops = snapshot.flops;
        row.utility = utility;
        row.within_utility = utility >= settings_.utility_bound;
        row.item = line.item;
        row.language = line.language;
        // Of several folds only a run of one of them splits the lines.
        row.part = line.held && (folds_.size() == 1 || job.fold > 0) ? "train" : "test";
        row.diverged = run.diverged && &snapshot == &run.snapshots.back();
        rows.push_back(std::move(row));
      }
    }
    rows.back().final = true;
    if (hooks_.on_run) hooks_.on_run(rows);
    runs_[key_of(rows.back())] = std::move(rows);
  }

  Model& model_;
  const std::string& name_;
  std::span<const AttackData> folds_;
  const AttackSettings& settings_;
  const AttackHooks& hooks_;
  std::vector<Rung> rungs_;
  std::optional<Snapshot> start_;
  std::map<RunKey, std::vector<AttackRow>> runs_;
};

void check(const AttackData& data, const AttackSettings& settings) {
  const auto expect = [](const std::string& value, std::initializer_list<const char*> known,
                         const char* what) {
    if (std::find(known.begin(), known.end(), value) == known.end())
      throw ConfigError(
          fmt::format("attack: unknown {} '{}'; expected one of {}", what, value, known));
  };
  const auto some = [](const auto& values, const std::string& what) {
    if (values.empty()) throw ConfigError(fmt::format("attack: {} is empty", what));
  };
  some(settings.reach, "reach");
  some(settings.schedules, "schedules");
  some(settings.seeds, "seeds");
  for (const auto& schedule : settings.schedules)
    expect(schedule, {"constant", "linear", "cosine"}, "schedule");
  for (const auto& reach : settings.reach) {
    expect(reach, {"full", "lora"}, "reach");
    some(reach == "full" ? settings.rates_full : settings.rates_lora, "rates_" + reach);
  }
  if (data.tested.empty()) fail("attack: nothing to test");
  if (data.utility.empty()) fail("attack: no retain examples to measure utility on");
  for (const Rung& rung : parse_rungs(settings.rungs)) {
    const auto text = data.texts.find(rung.text());
    if (text == data.texts.end() || text->second.examples.empty())
      fail("attack: rung {} has nothing to train on", rung.name());
    if (std::none_of(data.tested.begin(), data.tested.end(),
                     [&](const auto& line) { return rung.tests(line); }))
      fail("attack: rung {} has no line to test", rung.name());
    // The promise of rung b, checked where it would be broken.
    if (!rung.trains_on_lines()) continue;
    const std::set<std::string> trained(text->second.items.begin(), text->second.items.end());
    for (const auto& line : data.tested)
      if (!line.held && trained.contains(line.item))
        fail("attack: line '{}' is tested as never trained, but is in the training text",
             line.item);
  }
}

}  // namespace

Rate pick_rate(const std::vector<AttackRow>& rows) {
  if (rows.empty()) fail("attack: no runs to pick a learning rate from");
  struct Sums {
    double strength = 0, logprob = 0;
    int64_t count = 0;
  };
  const auto rate_of = [](const AttackRow& row) { return Rate{row.learning_rate, row.schedule}; };
  std::map<std::pair<Rate, int64_t>, Sums> means;     // by (rate, step)
  std::map<Rate, std::map<int64_t, int64_t>> tested;  // lines by step, those outside the bound too
  Rate lowest = rate_of(rows.front());
  for (const auto& row : rows) {
    lowest = std::min(lowest, rate_of(row));
    ++tested[rate_of(row)][row.step];
    if (!row.within_utility) continue;
    auto& mean = means[{rate_of(row), row.step}];
    mean.strength += row.extraction_strength;
    mean.logprob += row.logprob_per_token;
    mean.count += 1;
  }
  Rate rate = lowest;
  std::pair<double, double> best(-1, 0);
  for (const auto& [key, mean] : means) {
    // Every fold is measured at the first step; one that left the bound is missing later.
    if (mean.count != tested.at(key.first).begin()->second) continue;
    const auto count = static_cast<double>(mean.count);
    const std::pair<double, double> found(mean.strength / count, mean.logprob / count);
    if (found > best) std::tie(best, rate) = std::pair(found, key.first);
  }
  return rate;
}

std::vector<AttackRow> attack(Model& model, const std::string& name,
                              std::span<const AttackData> folds, const AttackSettings& settings,
                              const std::vector<AttackRow>& done, const AttackHooks& hooks) {
  if (folds.empty()) fail("attack: no data");
  for (const AttackData& data : folds) check(data, settings);
  for (const auto* linear : model.linears())
    if (linear->lora)
      fail("attack: model '{}' has adapters attached to {}; merge them first", name, linear->name);
  return Attack(model, name, folds, settings, done, hooks).all();
}

}  // namespace resurface
