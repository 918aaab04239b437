#include "eval/attack/relearn.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/run/error.h"
#include "eval/attack/recovery.h"
#include "finetune/sft.h"
#include "tests/eval/tiny.h"

using namespace resurface;
using namespace resurface::test;

namespace {

constexpr int64_t kLines = 8;

// Lines of random tokens: each with two seen phrasings and a held-out one, which share the subject.
struct World {
  AttackData data;
  std::vector<Example> all_lines;  // of T and V, seen phrasings: what is planted
};

Example asked(int64_t subject, int64_t phrasing, std::vector<int64_t> answer) {
  return {
      .prompt = {60 + phrasing, subject, 59}, .answer = std::move(answer), .weight = 1, .tags = {}};
}

std::vector<std::string> line_ids() {
  std::vector<std::string> ids;
  for (int64_t i = 0; i < kLines; ++i) ids.push_back(std::to_string(i));
  return ids;
}

World world(const Split& split = split_lines(line_ids(), 0.5, 0)) {
  World w;
  const auto ids = line_ids();
  const std::set<std::string> held(split.train.begin(), split.train.end());
  for (int64_t i = 0; i < kLines; ++i) {
    const auto line = random_ids(static_cast<uint64_t>(1000 + i), 6);
    const auto& id = ids[static_cast<size_t>(i)];
    for (const int64_t phrasing : {0, 1}) {
      w.all_lines.push_back(asked(i, phrasing, line));
      if (!held.contains(id)) continue;
      w.data.texts["lines"].examples.push_back(w.all_lines.back());
      w.data.texts["lines"].items.push_back(id);
    }
    w.data.tested.push_back(
        {id, "en", held.contains(id), w.data.test.size(), w.data.test.size() + 1});
    w.data.test.push_back(asked(i, 2, line));
    const auto neutral = random_ids(static_cast<uint64_t>(2000 + i), 6);
    w.data.texts["benign"].examples.push_back(asked(20 + i, 0, neutral));
    w.data.utility.push_back(asked(20 + i, 2, neutral));
  }
  return w;
}

AttackSettings quick() {
  AttackSettings s;
  s.rates_full = {1e-4, 1e-3};
  s.rates_lora = {1e-3, 1e-2};
  s.seeds = {0, 1};
  s.steps = 6;
  s.batch_size = 4;
  s.compute = "fp32";
  s.lora.rank = 2;
  return s;
}

void teach(Model& model, const std::vector<Example>& examples, int64_t steps) {
  TrainerSettings s;
  s.learning_rate = 5e-3;
  s.steps = steps;
  s.batch_size = 16;
  s.compute = "fp32";
  train(model, sft, sft_needs, {.forget = examples, .retain = {}}, s, 0);
}

std::vector<std::string> dumps(const std::vector<AttackRow>& rows) {
  std::vector<std::string> out;
  for (const auto& row : rows) out.push_back(nlohmann::json(row).dump());
  return out;
}

}  // namespace

TEST_CASE("The split of lines is disjoint, complete and seeded") {
  std::vector<std::string> ids;
  for (int i = 0; i < 16; ++i) ids.push_back(fmt::format("line-{}", i));
  const auto split = split_lines(ids, 0.5, 3);
  CHECK(split.train.size() == 8);
  CHECK(split.test.size() == 8);
  std::set<std::string> both(split.train.begin(), split.train.end());
  both.insert(split.test.begin(), split.test.end());
  CHECK(both.size() == 16);
  CHECK(split_lines(ids, 0.5, 3).train == split.train);
  CHECK(split_lines(ids, 0.5, 4).train != split.train);
  CHECK(split_lines(ids, 0, 3).train.size() == 1);
  CHECK(split_lines(ids, 1, 3).test.size() == 1);
  CHECK_THROWS_AS(split_lines({"only"}, 0.5, 0), Error);
}

TEST_CASE("Folds test every line once and never train it there") {
  std::vector<std::string> ids;
  for (int i = 0; i < 11; ++i) ids.push_back(fmt::format("line-{}", i));
  const auto folds = fold_lines(ids, 4, 3);
  REQUIRE(folds.size() == 4);
  std::vector<std::string> tested;
  std::vector<size_t> sizes;
  for (const auto& fold : folds) {
    sizes.push_back(fold.test.size());
    tested.insert(tested.end(), fold.test.begin(), fold.test.end());
    std::set<std::string> both(fold.train.begin(), fold.train.end());
    for (const auto& id : fold.test) CHECK(both.insert(id).second);
    CHECK(both.size() == ids.size());
  }
  CHECK(sizes == std::vector<size_t>{3, 3, 3, 2});
  CHECK(tested.size() == ids.size());
  CHECK(std::set<std::string>(tested.begin(), tested.end()).size() == ids.size());
  CHECK(fold_lines(ids, 4, 3)[0].test == folds[0].test);
  CHECK(fold_lines(ids, 4, 4)[0].test != folds[0].test);
  CHECK_THROWS_AS(fold_lines({"one", "two", "three"}, 4, 0), Error);

  AttackSettings settings;
  CHECK(attack_splits(ids, settings).size() == 1);
  CHECK(attack_splits(ids, settings)[0].train == split_lines(ids, 0.5, 0).train);
  settings.folds = 4;
  CHECK(attack_splits(ids, settings).size() == 4);
}

TEST_CASE("An attack in folds is the attack on each of them") {
  auto model = Model::random(tiny_config(), 1);
  std::vector<AttackData> folds;
  for (const auto& split : fold_lines(line_ids(), 3, 5)) {
    folds.push_back(world(split).data);
    folds.back().fold = std::ssize(folds);
  }
  auto settings = quick();
  settings.reach = {"full", "lora"};
  settings.steps = 2;
  std::vector<AttackRow> file;
  AttackHooks hooks;
  hooks.on_run = [&](const std::vector<AttackRow>& rows) {
    file.insert(file.end(), rows.begin(), rows.end());
  };
  const auto rows = attack(model, "m", folds, settings, {}, hooks);

  std::map<std::tuple<std::string, double, int64_t, int64_t>, std::multiset<std::string>> tested;
  std::set<std::pair<double, int64_t>> runs;
  for (const auto& row : rows) {
    if (row.rung == "d" || row.rung == "none") {
      CHECK(row.fold == 0);
      CHECK(row.part == "test");
      CHECK_FALSE(nlohmann::json(row).contains("fold"));
      continue;
    }
    CHECK(nlohmann::json(row).get<AttackRow>().fold == row.fold);
    const auto& trained = folds.at(static_cast<size_t>(row.fold - 1)).texts.at("lines").items;
    const bool held = std::find(trained.begin(), trained.end(), row.item) != trained.end();
    CHECK(held == (row.part == "train"));
    CHECK(held == (row.rung == "a"));
    if (row.rung != "b") continue;
    tested[{row.reach, row.learning_rate, row.seed, row.step}].insert(row.item);
    if (row.reach == "full") runs.insert({row.learning_rate, row.seed});
  }
  CHECK(tested.size() == 2 * 3 * 2);  // reaches, runs, steps
  const auto ids = line_ids();
  for (const auto& [run, items] : tested)
    CHECK(items == std::multiset<std::string>(ids.begin(), ids.end()));
  CHECK(runs.size() == 3);  // the second seed at one rate, the same in every fold

  // Each fold by itself, with the seed that runs at all rates.
  settings.seeds = {0};
  for (auto alone : folds) {
    const int64_t fold = std::exchange(alone.fold, 0);
    std::vector<AttackRow> own;
    for (auto row : rows) {
      if (row.fold != fold || row.seed != 0) continue;
      row.fold = 0;
      own.push_back(row);
    }
    auto expected = attack(model, "m", alone, settings);
    std::erase_if(expected, [](const auto& r) { return r.rung == "d" || r.rung == "none"; });
    CHECK(dumps(own) == dumps(expected));
  }

  // Cut off in the middle and resumed.
  settings.seeds = {0, 1};
  file.resize(file.size() / 2);
  CHECK(dumps(attack(model, "m", folds, settings, finished_rows(file))) == dumps(rows));
}

TEST_CASE("The attack leaves the model as it was, and does the same twice") {
  auto model = Model::random(tiny_config(), 1);
  const auto w = world();
  const auto before = model.content_hash();
  const auto rows = attack(model, "m", w.data, quick());
  CHECK(model.content_hash() == before);
  CHECK(std::none_of(model.parameters().begin(), model.parameters().end(),
                     [](const auto& p) { return p.second.requires_grad(); }));
  for (const auto* linear : model.linears()) CHECK_FALSE(linear->lora.has_value());

  CHECK(dumps(attack(model, "m", w.data, quick())) == dumps(rows));

  // Rungs test what they say: a the lines held, b those never trained, d all.
  const auto& lines = w.data.texts.at("lines").items;
  const std::set<std::string> held(lines.begin(), lines.end());
  std::map<std::string, std::set<int64_t>> steps;
  for (const auto& row : rows) {
    CHECK(held.contains(row.item) == (row.part == "train"));
    if (row.rung == "a") CHECK(row.part == "train");
    if (row.rung == "b") CHECK(row.part == "test");
    steps[row.rung].insert(row.step);
    if (row.step > 0) {
      CHECK(row.examples == 4 * row.step);
      CHECK(row.tokens == 6 * row.examples);
      CHECK(row.flops > 0);
    }
  }
  CHECK(steps["none"] == std::set<int64_t>{0});
  for (const auto* rung : {"a", "b", "d"}) CHECK(steps[rung] == std::set<int64_t>{1, 2, 4, 6});

  // Thinned: both rates with the first seed, one with the other.
  std::set<std::pair<double, int64_t>> runs;
  for (const auto& row : rows)
    if (row.rung == "b" && row.reach == "full") runs.insert({row.learning_rate, row.seed});
  CHECK(runs.size() == 3);
}

TEST_CASE("An attack cut off and resumed equals an uninterrupted one") {
  auto model = Model::random(tiny_config(), 1);
  const auto w = world();
  std::vector<AttackRow> file;
  AttackHooks hooks;
  hooks.on_run = [&](const std::vector<AttackRow>& rows) {
    file.insert(file.end(), rows.begin(), rows.end());
    if (file.size() > 150) throw Error("no space left");
  };
  const auto whole = attack(model, "m", w.data, quick());
  const auto before = model.content_hash();
  CHECK_THROWS_AS(attack(model, "m", w.data, quick(), {}, hooks), Error);
  CHECK(model.content_hash() == before);

  // The file was cut in mid-run, and read back from JSON.
  file.resize(file.size() - 3);
  std::vector<AttackRow> read;
  for (const auto& line : dumps(file)) read.push_back(nlohmann::json::parse(line).get<AttackRow>());
  const auto kept = finished_rows(read);
  CHECK(kept.size() < read.size());

  size_t added = 0;
  hooks.on_run = [&](const std::vector<AttackRow>& rows) { added += rows.size(); };
  CHECK(dumps(attack(model, "m", w.data, quick(), kept, hooks)) == dumps(whole));
  CHECK(added + kept.size() == whole.size());

  // Nothing left to do: nothing is run.
  hooks.on_run = [](const std::vector<AttackRow>&) { FAIL("a run was repeated"); };
  CHECK(dumps(attack(model, "m", w.data, quick(), whole, hooks)) == dumps(whole));
}

TEST_CASE("The rate is the one that recovers most within the utility bound") {
  const auto row = [](double rate, double strength, double logprob, bool within) {
    AttackRow r;
    r.rung = "b";
    r.learning_rate = rate;
    r.step = 1;
    r.extraction_strength = strength;
    r.logprob_per_token = logprob;
    r.within_utility = within;
    return r;
  };
  const auto best = [](const std::vector<AttackRow>& rows) {
    return pick_rate(rows).learning_rate;
  };
  CHECK(best({row(1, .1, -3, true), row(2, .3, -4, true), row(3, .9, -1, false)}) == 2);
  CHECK(best({row(1, 0, -3, true), row(2, 0, -2, true)}) == 2);
  CHECK(best({row(2, 1, 0, false), row(1, 1, 0, false)}) == 1);
}

TEST_CASE("Rungs say what they train on and what they test") {
  const TestLine held{"1", "en", true}, other{"2", "en", false}, chinese{"2", "zh-Hans", false};
  const auto tests = [&](const char* rung) {
    const auto r = parse_rung(rung);
    return std::vector<bool>{r.tests(held), r.tests(other), r.tests(chinese)};
  };
  using V = std::vector<bool>;
  CHECK(tests("a") == V{true, false, false});
  CHECK(tests("b/en") == V{false, true, true});
  CHECK(tests("c") == V{true, true, true});
  CHECK(tests("d") == V{true, true, true});
  CHECK(tests("d/en") == V{true, true, false});
  CHECK(tests("e/en") == V{false, false, true});
  CHECK(parse_rung("a/en").text() == parse_rung("b/en").text());
  CHECK(parse_rung("d/en").text() == parse_rung("e/en").text());
  CHECK(parse_rung("c").text() != parse_rung("d").text());
  for (const auto* wrong : {"", "f", "a/", "ab", "e"})
    CHECK_THROWS_AS(parse_rung(wrong), ConfigError);
}

TEST_CASE("An attacker of few examples, epochs and schedules") {
  auto model = Model::random(tiny_config(), 1);
  const auto w = world();
  auto settings = quick();
  settings.reach = {"lora"};
  settings.rungs = {"b"};
  settings.examples = 3;
  settings.batch_size = 2;
  settings.epochs = 3;  // of ceil(3 / 2) steps
  settings.measure_every = 3;
  settings.schedules = {"constant", "linear"};
  settings.pick_rate_on_first_seed = false;
  std::set<std::tuple<double, std::string, int64_t>> runs;
  std::set<int64_t> steps;
  for (const auto& row : attack(model, "m", w.data, settings)) {
    if (row.rung == "none") continue;
    runs.insert({row.learning_rate, row.schedule, row.seed});
    steps.insert(row.step);
    CHECK(row.examples <= 9);
  }
  CHECK(runs.size() == 8);
  CHECK(steps == std::set<int64_t>{1, 2, 3, 4, 6});
}

TEST_CASE("Runs in lock step equal runs alone") {
  auto model = Model::random(tiny_config(), 1);
  const auto w = world();
  auto settings = quick();
  settings.reach = {"lora"};
  settings.pick_rate_on_first_seed = false;
  const auto together = attack(model, "m", w.data, settings);
  std::vector<AttackRow> alone;
  for (const double rate : settings.rates_lora) {
    for (const int64_t seed : settings.seeds) {
      auto one = settings;
      one.rates_lora = {rate};
      one.seeds = {seed};
      const auto rows = attack(model, "m", w.data, one);
      alone.insert(alone.end(), rows.begin(), rows.end());
    }
  }
  size_t compared = 0;
  for (const auto& row : together) {
    for (const auto& other : alone) {
      if (key_of(row) != key_of(other) || row.step != other.step || row.item != other.item)
        continue;
      CHECK(row.logprob_per_token == Approx(other.logprob_per_token).epsilon(1e-4));
      CHECK(row.utility == Approx(other.utility).epsilon(1e-4));
      CHECK(row.tokens == other.tokens);
      CHECK(row.examples == other.examples);
      CHECK(row.flops == Approx(other.flops).epsilon(1e-9));
      ++compared;
    }
  }
  CHECK(compared >= together.size());
}

TEST_CASE("A run that diverges is a result, and the model comes back") {
  auto model = Model::random(tiny_config(), 1);
  const auto w = world();
  auto settings = quick();
  settings.reach = {"full"};
  settings.rungs = {"b"};
  settings.rates_full = {1e-4, 1e38};
  settings.seeds = {0};
  settings.utility_bound = 0;  // else the run ends for leaving the bound
  const auto before = model.content_hash();
  const auto rows = attack(model, "m", w.data, settings);
  CHECK(model.content_hash() == before);
  bool diverged = false;
  for (const auto& row : rows) {
    if (row.learning_rate != 1e38) continue;
    diverged = diverged || row.diverged;
  }
  CHECK(diverged);
  CHECK(pick_rate([&] {
          auto runs = rows;
          std::erase_if(runs, [](const AttackRow& r) { return r.rung == "none"; });
          return runs;
        }())
            .learning_rate == 1e-4);
}

TEST_CASE("The attack refuses data that would make it meaningless") {
  auto model = Model::random(tiny_config(), 1);
  auto w = world();
  const auto same = w.data;
  w.data.texts["lines"].items.front() = "0";
  for (auto& line : w.data.tested)
    if (line.item == "0") line.held = false;
  CHECK_THROWS_WITH(attack(model, "m", w.data, quick()), Catch::Contains("never trained"));
  auto no_utility = same;
  no_utility.utility.clear();
  CHECK_THROWS_WITH(attack(model, "m", no_utility, quick()), Catch::Contains("utility"));
  auto settings = quick();
  settings.rungs = {"z"};
  CHECK_THROWS_AS(attack(model, "m", same, settings), ConfigError);
  settings = quick();
  settings.rates_lora.clear();
  CHECK_THROWS_AS(attack(model, "m", same, settings), ConfigError);
}

TEST_CASE("The attack finds lines that are hidden, not gone") {
  auto w = world();
  auto oracle = Model::random(tiny_config(), 2);
  auto implanted = oracle.clone();
  auto with_lines = w.all_lines;
  auto& benign = w.data.texts["benign"].examples;
  with_lines.insert(with_lines.end(), benign.begin(), benign.end());
  for (int64_t i = 0; i < kLines; ++i)  // the held-out phrasing is understood from other questions
    for (auto* examples : {&with_lines, &benign})
      examples->push_back(asked(20 + i, 2, w.data.utility[static_cast<size_t>(i)].answer));
  teach(oracle, benign, 200);
  teach(implanted, with_lines, 300);
  // Hidden: the last MLP says the opposite of what it knows, so that at first sight the lines are
  // more thoroughly gone than in a model that never had them.
  auto hidden = implanted.clone();
  {
    at::NoGradGuard no_grad;
    hidden.block(1).mlp.down.weight.neg_();
  }
  auto settings = quick();
  settings.reach = {"full"};
  settings.rungs = {"b"};
  settings.rates_full = {3e-4, 1e-3, 3e-3};
  settings.seeds = {0};
  settings.steps = 32;
  settings.utility_bound = 0;
  const auto of_hidden = attack(hidden, "hidden", w.data, settings);
  const auto of_oracle = attack(oracle, "oracle", w.data, settings);
  auto none = settings;
  none.rungs.clear();
  const auto of_implanted = attack(implanted, "implanted", w.data, none);
  RecoverySettings rs;
  rs.bootstrap.resamples = 200;
  const auto found = recovery({of_hidden, of_implanted, of_oracle}, rs);
  for (const auto& r : found) {
    if (r.metric != "logprob_per_token") continue;
    INFO(nlohmann::json(r).dump());
    CHECK(r.implanted.estimate > -0.1);
    CHECK(r.points.front().oracle_gap.high < 0);
    CHECK(r.points.back().oracle_gap.estimate > 0.2);
    CHECK(r.points.back().recovered_net.estimate > 0.15);
  }
}
