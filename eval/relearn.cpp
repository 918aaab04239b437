#include "eval/relearn.h"

#include <cmath>
#include <random>
#include <set>
#include <tuple>

#include "core/run/error.h"
#include "eval/score.h"
#include "finetune/lora.h"
#include "finetune/sft.h"

namespace resurface {
namespace {

// What identifies a run of one model.
using RunKey = std::tuple<std::string, std::string, double, int64_t>;  // rung, reach, rate, seed
RunKey key_of(const AttackRow& row) { return {row.rung, row.reach, row.learning_rate, row.seed}; }

bool trains_on_benign(const std::string& rung) { return rung == "d"; }

bool tests(const std::string& rung, const TestLine& line) {
  if (rung == "a") return line.held;
  if (rung == "b") return !line.held;
  return true;
}

// What one measurement found, before it is written as rows of one or two rungs.
struct Snapshot {
  int64_t step = 0, tokens = 0, examples = 0;
  double flops = 0;
  double retain_logprob = 0;     // mean over tokens
  std::vector<AttackRow> lines;  // metrics of each of data.tested; empty for those not asked for
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
  std::vector<std::string> rungs;
  std::string reach;
  double rate = 0;
  int64_t seed = 0;
};

class Attack {
 public:
  Attack(Model& model, const std::string& name, const AttackData& data,
         const AttackSettings& settings, const std::vector<AttackRow>& done,
         const AttackHooks& hooks)
      : model_(model), name_(name), data_(data), settings_(settings), hooks_(hooks) {
    std::vector<AttackRow> own;
    std::copy_if(done.begin(), done.end(), std::back_inserter(own),
                 [&](const AttackRow& row) { return row.model == name; });
    for (auto& row : finished_rows(std::move(own))) runs_[key_of(row)].push_back(std::move(row));
  }

  std::vector<AttackRow> all() {
    for (const auto& reach : settings_.reach) {
      for (const bool benign : {false, true}) {
        std::vector<std::string> rungs;
        for (const auto& rung : settings_.rungs)
          if (trains_on_benign(rung) == benign) rungs.push_back(rung);
        if (!rungs.empty()) grid(rungs, reach);
      }
    }
    if (runs_.empty()) start();
    std::vector<AttackRow> rows;
    for (const auto& [key, of_run] : runs_) rows.insert(rows.end(), of_run.begin(), of_run.end());
    return rows;
  }

 private:
  // All runs of rungs that train on the same text, with one reach.
  void grid(const std::vector<std::string>& rungs, const std::string& reach) {
    const auto& rates = reach == "full" ? settings_.rates_full : settings_.rates_lora;
    for (size_t s = 0; s < settings_.seeds.size(); ++s) {
      const auto seed = settings_.seeds[s];
      for (const double rate : rates) {
        std::vector<std::string> wanted;
        for (const auto& rung : rungs) {
          if (s > 0 && settings_.pick_rate_on_first_seed && picked(rung, reach, rates) != rate)
            continue;
          if (!runs_.contains({rung, reach, rate, seed})) wanted.push_back(rung);
        }
        if (!wanted.empty()) run_job({wanted, reach, rate, seed});
      }
    }
  }

  double picked(const std::string& rung, const std::string& reach,
                const std::vector<double>& rates) const {
    std::vector<AttackRow> rows;
    for (const double rate : rates) {
      const auto& run = runs_.at({rung, reach, rate, settings_.seeds.front()});
      rows.insert(rows.end(), run.begin(), run.end());
    }
    return pick_rate(rows);
  }

  void run_job(const Job& job) {
    start();
    const auto run = train_and_measure(job);
    for (const auto& rung : job.rungs) keep(rung, job, run);
  }

  // The state before any attack, measured once a model.
  const Snapshot& start() {
    if (start_) return *start_;
    start_ = measure({"a", "b"});
    if (!runs_.contains({"none", "none", 0, 0})) keep("none", {{}, "none", 0, 0}, {{*start_}});
    return *start_;
  }

  Snapshot measure(const std::vector<std::string>& rungs) const {
    Snapshot snapshot;
    std::vector<Example> asked;
    std::vector<size_t> lines;
    for (size_t i = 0; i < data_.tested.size(); ++i) {
      const auto& line = data_.tested[i];
      if (std::none_of(rungs.begin(), rungs.end(), [&](const auto& r) { return tests(r, line); }))
        continue;
      lines.push_back(i);
      for (size_t e = line.begin; e < line.end; ++e) asked.push_back(data_.test[e]);
    }
    const auto of_lines = asked.size();
    asked.insert(asked.end(), data_.utility.begin(), data_.utility.end());
    const auto scores = score(model_, asked, settings_.score_tokens);

    snapshot.lines.resize(data_.tested.size());
    size_t at = 0;
    for (const auto i : lines) {
      const auto& line = data_.tested[i];
      auto& row = snapshot.lines[i];
      const auto questions = static_cast<double>(line.end - line.begin);
      for (size_t e = line.begin; e < line.end; ++e, ++at) {
        const auto& s = scores[at];
        row.logprob_per_token += s.logprob / static_cast<double>(s.tokens) / questions;
        row.exact_memorization += s.exact_memorization / questions;
        row.extraction_strength += s.extraction_strength / questions;
        row.greedy_match += (s.greedy_match ? 1 : 0) / questions;
      }
    }
    double logprob = 0, tokens = 0;
    for (size_t i = of_lines; i < scores.size(); ++i) {
      logprob += scores[i].logprob;
      tokens += static_cast<double>(scores[i].tokens);
    }
    snapshot.retain_logprob = logprob / tokens;
    return snapshot;
  }

  double utility(const Snapshot& snapshot) const {
    return std::exp(snapshot.retain_logprob - start_->retain_logprob);
  }

  TrainerSettings trainer_settings(const Job& job) const {
    TrainerSettings s;
    s.reach = job.reach;
    s.lora = settings_.lora;
    s.learning_rate = job.rate;
    s.schedule = settings_.schedule;
    s.steps = settings_.steps;
    s.batch_size = settings_.batch_size;
    s.clip = settings_.clip;
    s.compute = settings_.compute;
    return s;
  }

  Run train_and_measure(const Job& job) {
    const bool benign = trains_on_benign(job.rungs.front());
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
      hooks.label = fmt::format("{}: {} rung {} {} rate {:g} seed {}", hooks_.label, name_,
                                fmt::join(job.rungs, "+"), job.reach, job.rate, job.seed);
    hooks.on_step = [&](const StepReport& report) {
      flops += model_.flops().total() - counted;
      const bool power_of_two = (report.step & (report.step - 1)) == 0;
      if (power_of_two || report.step == settings_.steps) {
        const auto training_compute = model_.compute();
        model_.set_compute(compute);
        auto snapshot = measure(job.rungs);
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
      train(model_, counted_sft, sft_needs,
            {.forget = benign ? data_.benign : data_.lines, .retain = {}}, trainer_settings(job),
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

  // Writes one run of one rung.
  void keep(const std::string& rung, const Job& job, const Run& run) {
    std::vector<AttackRow> rows;
    for (const auto& snapshot : run.snapshots) {
      const double utility = this->utility(snapshot);
      for (size_t i = 0; i < data_.tested.size(); ++i) {
        const auto& line = data_.tested[i];
        if (!tests(rung, line)) continue;
        AttackRow row = snapshot.lines[i];
        row.model = name_;
        row.rung = rung;
        row.reach = job.reach;
        row.learning_rate = job.rate;
        row.seed = job.seed;
        row.step = snapshot.step;
        row.tokens = snapshot.tokens;
        row.examples = snapshot.examples;
        row.flops = snapshot.flops;
        row.utility = utility;
        row.within_utility = utility >= settings_.utility_bound;
        row.item = line.item;
        row.language = line.language;
        row.part = line.held ? "train" : "test";
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
  const AttackData& data_;
  const AttackSettings& settings_;
  const AttackHooks& hooks_;
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
  for (const auto& rung : settings.rungs) expect(rung, {"a", "b", "d"}, "rung");
  for (const auto& reach : settings.reach) {
    expect(reach, {"full", "lora"}, "reach");
    if ((reach == "full" ? settings.rates_full : settings.rates_lora).empty())
      throw ConfigError(fmt::format("attack: rates_{} is empty", reach));
  }
  if (settings.seeds.empty()) throw ConfigError("attack: expected at least one seed, got none");
  if (data.tested.empty()) fail("attack: nothing to test");
  if (data.utility.empty()) fail("attack: no retain examples to measure utility on");
  for (const auto& rung : settings.rungs) {
    if (trains_on_benign(rung) ? data.benign.empty() : data.lines.empty())
      fail("attack: rung {} has nothing to train on", rung);
    if (std::none_of(data.tested.begin(), data.tested.end(),
                     [&](const auto& line) { return tests(rung, line); }))
      fail("attack: rung {} has no line to test", rung);
  }
  // The promise of rung b, checked where it would be broken.
  const std::set<std::string> trained(data.line_items.begin(), data.line_items.end());
  for (const auto& line : data.tested)
    if (!line.held && trained.contains(line.item))
      fail("attack: line '{}' is tested as never trained, but is in the training text", line.item);
}

}  // namespace

Split split_lines(const std::vector<std::string>& ids, double train_share, uint64_t seed) {
  if (ids.size() < 2) fail("attack: expected at least 2 lines to split, got {}", ids.size());
  std::vector<size_t> order(ids.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937_64 random(seed);
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  const auto held = std::clamp<size_t>(
      static_cast<size_t>(std::lround(train_share * static_cast<double>(ids.size()))), 1,
      ids.size() - 1);
  const std::set<size_t> train(order.begin(), order.begin() + static_cast<ptrdiff_t>(held));
  Split split;
  for (size_t i = 0; i < ids.size(); ++i)
    (train.contains(i) ? split.train : split.test).push_back(ids[i]);
  return split;
}

AttackData make_attack_data(const Suite& forget, const Suite& retain, const Suite& benign,
                            const Tokenizer& tokenizer, const ChatFormat& chat,
                            const AttackSettings& settings, int64_t context) {
  const auto split =
      split_lines(forget.ids(), settings.train_share, static_cast<uint64_t>(settings.split_seed));
  const std::set<std::string> held(split.train.begin(), split.train.end());
  const auto trained_in = [&](const Item& item) {
    const auto& languages = settings.train_languages;
    return languages.empty() ||
           std::find(languages.begin(), languages.end(), item.language) != languages.end();
  };
  const auto seen = [&](const Suite& suite) {
    return make_probes(suite, tokenizer, chat, Answer::line, false, context);
  };
  // The first `test_questions` held-out questions of each item.
  const auto held_out = [&](const Suite& suite, int64_t items = 0) {
    const auto ids = suite.ids();
    const std::set<std::string> wanted(
        ids.begin(), items > 0 && items < std::ssize(ids) ? ids.begin() + items : ids.end());
    std::vector<Probe> some;
    std::map<int64_t, int64_t> taken;
    for (auto& probe : make_probes(suite, tokenizer, chat, Answer::line, true, context)) {
      if (!wanted.contains(suite.items.at(static_cast<size_t>(probe.item)).id)) continue;
      if (settings.test_questions == 0 || taken[probe.item]++ < settings.test_questions)
        some.push_back(std::move(probe));
    }
    std::stable_sort(some.begin(), some.end(),
                     [](const Probe& x, const Probe& y) { return x.item < y.item; });
    return some;
  };

  AttackData data;
  for (auto& probe : seen(forget)) {
    const auto& item = forget.items.at(static_cast<size_t>(probe.item));
    if (!held.contains(item.id) || !trained_in(item)) continue;
    data.lines.push_back(std::move(probe.example));
    data.line_items.push_back(item.id);
  }
  for (auto& probe : seen(benign))
    if (trained_in(benign.items.at(static_cast<size_t>(probe.item))))
      data.benign.push_back(std::move(probe.example));
  for (auto& probe : held_out(retain, settings.utility_items))
    data.utility.push_back(std::move(probe.example));
  for (auto& probe : held_out(forget)) {
    const auto& item = forget.items.at(static_cast<size_t>(probe.item));
    if (data.tested.empty() || data.tested.back().item != item.id ||
        data.tested.back().language != item.language)
      data.tested.push_back({item.id, item.language, held.contains(item.id), data.test.size(), 0});
    data.test.push_back(std::move(probe.example));
    data.tested.back().end = data.test.size();
  }
  return data;
}

std::vector<AttackRow> finished_rows(std::vector<AttackRow> rows) {
  using Key = std::pair<std::string, RunKey>;
  std::set<Key> finished;
  for (const auto& row : rows)
    if (row.final) finished.insert({row.model, key_of(row)});
  std::erase_if(rows, [&](const AttackRow& row) {
    return !finished.contains({row.model, key_of(row)});
  });
  return rows;
}

double pick_rate(const std::vector<AttackRow>& rows) {
  if (rows.empty()) fail("attack: no runs to pick a learning rate from");
  struct Sums {
    double strength = 0, logprob = 0, count = 0;
  };
  std::map<std::pair<double, int64_t>, Sums> means;  // by (rate, step)
  double lowest = rows.front().learning_rate;
  for (const auto& row : rows) {
    lowest = std::min(lowest, row.learning_rate);
    if (!row.within_utility) continue;
    auto& mean = means[{row.learning_rate, row.step}];
    mean.strength += row.extraction_strength;
    mean.logprob += row.logprob_per_token;
    mean.count += 1;
  }
  double rate = lowest;
  std::pair<double, double> best(-1, 0);
  for (const auto& [key, mean] : means) {
    const std::pair<double, double> found(mean.strength / mean.count, mean.logprob / mean.count);
    if (found > best) std::tie(best, rate) = std::pair(found, key.first);
  }
  return rate;
}

std::vector<AttackRow> attack(Model& model, const std::string& name, const AttackData& data,
                              const AttackSettings& settings, const std::vector<AttackRow>& done,
                              const AttackHooks& hooks) {
  check(data, settings);
  for (const auto* linear : model.linears())
    if (linear->lora)
      fail("attack: model '{}' has adapters attached to {}; merge them first", name, linear->name);
  return Attack(model, name, data, settings, done, hooks).all();
}

void to_json(nlohmann::json& json, const AttackRow& row) {
  json = {{"model", row.model},
          {"rung", row.rung},
          {"reach", row.reach},
          {"learning_rate", row.learning_rate},
          {"seed", row.seed},
          {"step", row.step},
          {"tokens", row.tokens},
          {"examples", row.examples},
          {"flops", row.flops},
          {"utility", row.utility},
          {"within_utility", row.within_utility},
          {"item", row.item},
          {"language", row.language},
          {"part", row.part},
          {"logprob_per_token", row.logprob_per_token},
          {"exact_memorization", row.exact_memorization},
          {"extraction_strength", row.extraction_strength},
          {"greedy_match", row.greedy_match},
          {"diverged", row.diverged},
          {"final", row.final}};
}

void from_json(const nlohmann::json& json, AttackRow& row) {
  // A figure that is not finite is null in JSON.
  const auto number = [&](const char* key) {
    const auto& value = json.at(key);
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  };
  json.at("model").get_to(row.model);
  json.at("rung").get_to(row.rung);
  json.at("reach").get_to(row.reach);
  row.learning_rate = number("learning_rate");
  json.at("seed").get_to(row.seed);
  json.at("step").get_to(row.step);
  json.at("tokens").get_to(row.tokens);
  json.at("examples").get_to(row.examples);
  row.flops = number("flops");
  row.utility = number("utility");
  json.at("within_utility").get_to(row.within_utility);
  json.at("item").get_to(row.item);
  json.at("language").get_to(row.language);
  json.at("part").get_to(row.part);
  row.logprob_per_token = number("logprob_per_token");
  row.exact_memorization = number("exact_memorization");
  row.extraction_strength = number("extraction_strength");
  row.greedy_match = number("greedy_match");
  json.at("diverged").get_to(row.diverged);
  json.at("final").get_to(row.final);
}

}  // namespace resurface
