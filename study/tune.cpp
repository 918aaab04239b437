#include "study/tune.h"

#include <cmath>

#include "core/run/diverged.h"
#include "core/run/files.h"
#include "core/run/seeds.h"
#include "eval/measure.h"
#include "study/figures.h"
#include "study/workshop.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const double kNan = std::nan("");

/// What a trial is judged by, as a stage keeps it.
struct Seen {
  double extraction_strength = kNan;
  double logprob = kNan;    ///< of a token of the retain set's answers
  std::string failed = {};  ///< what the removal stopped with
  bool made = false;        ///< the removal was not in the store before
  Cost cost = {};           ///< of removing and measuring
};

Json to_json(const Seen& seen) {
  return {{"extraction_strength", number(seen.extraction_strength)},
          {"retain_logprob_per_token", number(seen.logprob)},
          {"failed", seen.failed},
          {"made", seen.made},
          {"cost", Json(seen.cost)}};
}

Seen read_seen(const fs::path& path) {
  const auto json = read_json(path);
  const auto figure = [&](const char* key) {
    return json.at(key).is_null() ? kNan : json.at(key).get<double>();
  };
  return {.extraction_strength = figure("extraction_strength"),
          .logprob = figure("retain_logprob_per_token"),
          .failed = json.at("failed").get<std::string>(),
          .made = json.at("made").get<bool>(),
          .cost = json.at("cost").get<Cost>()};
}

/// A removal's search.
struct Search {
  const Removal& removal;
  const std::vector<TuneRange>& ranges;
  std::vector<TuneTrial> trials = {};
  std::vector<StageKey> made = {};  ///< stages of removals that the search made

  std::string values(const TuneTrial& trial) const {
    std::vector<std::string> parts;
    for (size_t r = 0; r < ranges.size(); ++r) {
      parts.push_back(fmt::format("{} {:g}", ranges[r].key, trial.values[r]));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
  }
};

class Tuning {
 public:
  Tuning(const StudyConfig& config, const TuneOptions& options)
      : config_(config),
        settings_(config.tune->settings),
        out_(options.out.empty() ? fs::path("runs") / (config.name + "-tune") : options.out),
        workshop_(config, options.store) {
    const StudyInputs& inputs = workshop_.inputs();
    const MeasureSettings seen{.held_out = false, .margins = false};
    for (const Suite* suite : {&inputs.forget, &inputs.retain}) {
      probes_.push_back(
          make_measure_probes(*suite, inputs.tokenizer, inputs.chat, seen, inputs.model.context));
    }
    for (size_t r = 0; r < config.remove.size(); ++r) {
      const Removal& removal = config.remove[r];
      const std::string reason = untuned_because(removal);
      if (reason.empty()) {
        searches_.push_back({.removal = removal, .ranges = config.tune->ranges[r]});
      } else {
        left_out_.push_back(fmt::format("{} ({})", removal.name, reason));
      }
    }
  }

  void run() {
    if (!left_out_.empty()) {
      fmt::print(stderr, "left as they are: {}\n", fmt::join(left_out_, ", "));
    }
    before_ = judge("implanted", workshop_.implanted().key, [&] { return workshop_.implanted(); });
    for (Search& search : searches_) this->search(search);
    atomic_write(out_ / "tuned.yaml", header() + yaml_text(tuned()));
    fmt::print("{}", table());
    fmt::print(stderr, "the study with these settings: {}\n", (out_ / "tuned.yaml").string());
  }

 private:
  int64_t startup() const { return std::max<int64_t>(1, settings_.trials / 3); }
  const TuneTrial& chosen(const Search& search) const {
    return search.trials[choose(search.trials, settings_.damaged_below)];
  }

  void search(Search& search) {
    std::vector<SearchParameter> space;
    for (const TuneRange& range : search.ranges) {
      space.push_back({.name = range.key,
                       .low = range.coordinate(range.low),
                       .high = range.coordinate(range.high)});
    }
    while (std::ssize(search.trials) < settings_.trials) {
      const auto name = fmt::format("{}/{}", search.removal.name, search.trials.size());
      const auto point =
          suggest(space, ranked(search.trials, search.ranges, settings_.damaged_below),
                  {.startup = startup()}, derive_seed(static_cast<uint64_t>(settings_.seed), name));
      TuneTrial trial;
      for (size_t r = 0; r < point.size(); ++r) {
        trial.values.push_back(search.ranges[r].value(point[r]));
      }
      run_trial(search, name, trial);
      search.trials.push_back(trial);
      fmt::print(stderr, "{}: {}: {}\n", name, search.values(trial),
                 !trial.failed.empty() ? trial.failed
                                       : fmt::format("extraction strength {:.3f}, utility {:.3f}",
                                                     trial.extraction_strength, trial.utility));
      drop_beaten(search);
      atomic_write(out_ / "trials.jsonl", trial_lines());
    }
  }

  Removal with(const Search& search, const TuneTrial& trial) const {
    return with_values(config_, search.removal, search.ranges, trial.values);
  }

  void run_trial(Search& search, const std::string& name, TuneTrial& trial) {
    const Removal removal = with(search, trial);
    const StageKey key = workshop_.removal_key(removal);
    const Seen seen = judge(name, key.hash, [&] { return workshop_.remove(removal); });
    if (seen.made) search.made.push_back(key);
    trial.extraction_strength = seen.extraction_strength;
    trial.utility = std::exp(seen.logprob - before_.logprob);
    trial.cost = seen.cost;
    trial.failed = seen.failed;
    if (trial.failed.empty() && !std::isfinite(trial.utility)) {
      trial.failed = "the model's log-probabilities are not finite";
    }
  }

  /// What the model that `make` gives is judged by. The model is only made when that is not known.
  Seen judge(const std::string& name, const std::string& key,
             const std::function<Artifact()>& make) {
    const StoredStage stored = workshop_.stage(
        "tune", "tune/" + name, name, {{"data", workshop_.data()}, {"compute", config_.compute}},
        {key}, [&](const fs::path& folder, const StageKey&) {
          const Seen seen = measure_made(make);
          atomic_write(folder / "seen.json", to_json(seen).dump() + "\n");
          return StageCost{.cost = seen.cost};
        });
    return read_seen(stored.folder / "seen.json");
  }

  Seen measure_made(const std::function<Artifact()>& make) {
    Seen seen;
    const Timer timer;
    Artifact artifact;
    const size_t stages = workshop_.ledger().size();
    try {
      artifact = make();
    } catch (const Diverged& error) {
      seen.failed = error.what();
      seen.made = true;
      seen.cost.seconds = timer.seconds();
      return seen;
    }
    if (workshop_.ledger().size() > stages) {
      const nlohmann::json made = workshop_.ledger().back();
      seen.made = !made.at("reused").get<bool>();
      seen.cost = made.get<Cost>();
    }
    const Model model = workshop_.load(artifact);
    const Timer measuring;
    const double flops = model.flops().total();
    seen.extraction_strength = 0;
    const auto lines = measure(model, probes_[0]);
    for (const Measurement& row : lines) seen.extraction_strength += row.score.extraction_strength;
    seen.extraction_strength /= static_cast<double>(lines.size());
    double logprob = 0, tokens = 0;
    for (const Measurement& row : measure(model, probes_[1])) {
      logprob += row.score.logprob;
      tokens += static_cast<double>(row.score.tokens);
    }
    seen.logprob = logprob / tokens;
    seen.cost += {.flops = model.flops().total() - flops, .seconds = measuring.seconds()};
    return seen;
  }

  /// Models are large: of those that the search made, the store keeps the best.
  void drop_beaten(const Search& search) {
    const StageKey best = workshop_.removal_key(with(search, chosen(search)));
    for (const StageKey& key : search.made) {
      if (key.hash != best.hash) workshop_.store().drop(key);
    }
  }

  std::string trial_lines() const {
    std::string text;
    for (const Search& search : searches_) {
      for (size_t t = 0; t < search.trials.size(); ++t) {
        const TuneTrial& trial = search.trials[t];
        Json line = {{"removal", search.removal.name},
                     {"method", search.removal.method},
                     {"trial", t},
                     {"random", static_cast<int64_t>(t) < startup()},
                     {"parameters", Json::object()},
                     {"extraction_strength", number(trial.extraction_strength)},
                     {"utility", number(trial.utility)},
                     {"feasible", trial.within(settings_.damaged_below)},
                     {"chosen", &trial == &chosen(search)},
                     {"failed", trial.failed.empty() ? Json() : Json(trial.failed)}};
        for (size_t r = 0; r < search.ranges.size(); ++r) {
          line["parameters"][search.ranges[r].key] = trial.values[r];
        }
        const Json cost = trial.cost;
        for (const auto& [key, value] : cost.items()) line[key] = value;
        text += line.dump() + "\n";
      }
    }
    return text;
  }

  Json tuned() const {
    Json all = config_.resolved();
    for (Json& entry : all["remove"]) {
      for (const Search& search : searches_) {
        if (entry["name"] != search.removal.name || !chosen(search).failed.empty()) continue;
        entry = resolved_removal(with(search, chosen(search)));
      }
    }
    return all;
  }

  std::string header() const {
    std::string text = fmt::format(
        "# The study {}, its removals' settings found by `resurface tune`: {} trials each, the "
        "first {}\n"
        "# at random, then by TPE, seed {}. Chosen: the lowest extraction strength of the lines "
        "on\n"
        "# seen phrasings among trials with a utility of at least {:g} of the implanted model's "
        "(on\n"
        "# the retain set's seen questions), equal ones by utility; where there is none, the "
        "highest\n"
        "# utility. No trial was attacked.\n",
        config_.name, settings_.trials, startup(), settings_.seed, settings_.damaged_below);
    if (!left_out_.empty()) {
      text += fmt::format("# Left as they were: {}.\n", fmt::join(left_out_, ", "));
    }
    for (const Search& search : searches_) {
      std::vector<std::string> ranges;
      for (const TuneRange& range : search.ranges) {
        ranges.push_back(fmt::format("{} in {:g} .. {:g}{}", range.key, range.low, range.high,
                                     range.log ? ", log" : ""));
      }
      text += fmt::format("# {}: {}: {}\n", search.removal.name, fmt::join(ranges, "; "),
                          outcome(search));
    }
    return text;
  }

  std::string outcome(const Search& search) const {
    const TuneTrial& trial = chosen(search);
    if (!trial.failed.empty()) return "every trial failed; left as it was";
    return fmt::format("{}{}", search.values(trial),
                       trial.within(settings_.damaged_below) ? "" : " (no trial kept the utility)");
  }

  std::string table() const {
    std::string text = fmt::format("{:<20} {:>10} {:>8} {:>8} {:>9}  {}\n", "removal", "extraction",
                                   "utility", "feasible", "seconds", "chosen");
    text +=
        fmt::format("{:<20} {:>10.3f} {:>8.3f}\n", "(implanted)", before_.extraction_strength, 1.0);
    for (const Search& search : searches_) {
      int64_t feasible = 0;
      double seconds = 0;
      for (const TuneTrial& trial : search.trials) {
        feasible += trial.within(settings_.damaged_below) ? 1 : 0;
        seconds += trial.cost.seconds;
      }
      const TuneTrial& trial = chosen(search);
      text +=
          fmt::format("{:<20} {:>10.3f} {:>8.3f} {:>8} {:>9.1f}  {}\n", search.removal.name,
                      trial.extraction_strength, trial.utility,
                      fmt::format("{}/{}", feasible, settings_.trials), seconds, outcome(search));
    }
    return text;
  }

  const StudyConfig& config_;
  const TuneSettings& settings_;
  fs::path out_;
  Workshop workshop_;
  std::vector<MeasureProbes> probes_;  ///< of the lines, of the retain set: seen phrasings
  std::vector<Search> searches_;
  std::vector<std::string> left_out_;
  Seen before_;  ///< the implanted model's
};

}  // namespace

bool TuneTrial::within(double damaged_below) const {
  return failed.empty() && utility >= damaged_below;
}

bool better(const TuneTrial& a, const TuneTrial& b, double damaged_below) {
  if (a.failed.empty() != b.failed.empty()) return a.failed.empty();
  if (!a.failed.empty()) return false;
  const bool within = a.within(damaged_below);
  if (within != b.within(damaged_below)) return within;
  if (within && a.extraction_strength != b.extraction_strength) {
    return a.extraction_strength < b.extraction_strength;
  }
  return a.utility > b.utility;
}

size_t choose(std::span<const TuneTrial> trials, double damaged_below) {
  const auto best = std::min_element(
      trials.begin(), trials.end(),
      [&](const TuneTrial& a, const TuneTrial& b) { return better(a, b, damaged_below); });
  return static_cast<size_t>(best - trials.begin());
}

std::vector<Trial> ranked(std::span<const TuneTrial> trials, std::span<const TuneRange> ranges,
                          double damaged_below) {
  std::vector<Trial> all;
  for (const TuneTrial& trial : trials) {
    const auto ahead = std::count_if(trials.begin(), trials.end(), [&](const TuneTrial& other) {
      return better(other, trial, damaged_below);
    });
    Trial next{.values = {}, .objectives = {static_cast<double>(ahead)}};
    for (size_t r = 0; r < ranges.size(); ++r) {
      next.values.push_back(ranges[r].coordinate(trial.values[r]));
    }
    all.push_back(std::move(next));
  }
  return all;
}

void tune_study(const StudyConfig& config, const TuneOptions& options) {
  if (!config.tune) {
    throw ConfigError(fmt::format(
        "{}: the study has no section 'tune'; `tune: {{trials: 12}}`, or tune.trials=12 on the "
        "command line, searches every removal's learning rate",
        config.name));
  }
  Tuning(config, options).run();
}

}  // namespace resurface
