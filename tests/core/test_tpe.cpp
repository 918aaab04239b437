// The Parzen search against Optuna's TPESampler (scripts/golden_tpe.py) and against random search.
#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>

#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/seeds.h"
#include "core/search/tpe.h"

using namespace resurface;

namespace {

const nlohmann::json& golden() {
  static const auto json =
      read_json(std::filesystem::path(RESURFACE_TEST_DATA) / "search" / "tpe.json");
  return json;
}

const std::vector<SearchParameter> kSpace = {
    {.name = "x", .low = -2, .high = 3}, {.name = "c", .choices = 3}, {.name = "y", .high = 0.5}};

double branin(const std::vector<double>& at) {
  constexpr double pi = std::numbers::pi;
  const double x = at[0], y = at[1];
  return std::pow(y - 5.1 / (4 * pi * pi) * x * x + 5 / pi * x - 6, 2) +
         10 * (1 - 1 / (8 * pi)) * std::cos(x) + 10;
}

/// The best of some trials, and all of them.
template <class Objectives>
std::vector<Trial> run(std::span<const SearchParameter> space, int64_t trials, int64_t startup,
                       uint64_t seed, Objectives&& objectives) {
  std::vector<Trial> done;
  while (std::ssize(done) < trials) {
    const auto values =
        suggest(space, done, {.startup = startup}, derive_seed(seed, std::to_string(done.size())));
    done.push_back({values, objectives(values)});
  }
  return done;
}

}  // namespace

TEST_CASE("The best trials are those that Optuna takes, with one objective and with two") {
  for (const auto& expected : golden()["splits"]) {
    std::vector<Trial> trials;
    for (const auto& row : expected["objectives"]) {
      trials.push_back({{}, row.get<std::vector<double>>()});
    }
    const auto best = best_trials(trials, expected["count"].get<int64_t>());
    std::vector<size_t> taken;
    for (size_t i = 0; i < best.size(); ++i) {
      if (best[i]) taken.push_back(i);
    }
    CHECK(taken == expected["best"].get<std::vector<size_t>>());
  }
}

TEST_CASE("Densities of the estimators are Optuna's") {
  for (const auto& expected : golden()["densities"]) {
    const auto observations = expected["observations"].get<std::vector<std::vector<double>>>();
    const ParzenEstimator estimator(kSpace, observations,
                                    expected["fading"].get<bool>()
                                        ? ParzenEstimator::fading_weights(observations.size())
                                        : std::vector<double>(observations.size(), 1.0));
    const auto points = expected["points"].get<std::vector<std::vector<double>>>();
    for (size_t i = 0; i < points.size(); ++i) {
      CHECK(estimator.log_density(points[i]) ==
            Approx(expected["log_density"][i].get<double>()).epsilon(1e-9));
    }
  }
}

TEST_CASE("Samples of an estimator are distributed as its density says") {
  const ParzenEstimator estimator(kSpace, {{-1.9, 1, 0.4}, {2.5, 2, 0.1}, {2.9, 1, 0.3}},
                                  {1, 2, 0.5});
  uint64_t state = 1;
  const auto uniform = [&] {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  // The share of samples in each cell of a grid, against the density's integral over it.
  constexpr int64_t samples = 40000, across = 5, fine = 20;
  std::map<std::array<int64_t, 3>, double> share;
  for (int64_t i = 0; i < samples; ++i) {
    const auto point = estimator.sample(uniform);
    REQUIRE(point[0] >= -2);
    REQUIRE(point[0] <= 3);
    REQUIRE(point[2] >= 0);
    REQUIRE(point[2] <= 0.5);
    const auto x = static_cast<int64_t>((point[0] + 2) / 5 * across);
    const auto y = static_cast<int64_t>(point[2] / 0.5 * across);
    share[{std::min(x, across - 1), static_cast<int64_t>(point[1]), std::min(y, across - 1)}] +=
        1.0 / samples;
  }
  double whole = 0;
  for (int64_t x = 0; x < across; ++x) {
    for (int64_t y = 0; y < across; ++y) {
      for (int64_t c = 0; c < 3; ++c) {
        double mass = 0;
        for (int64_t i = 0; i < fine; ++i) {
          for (int64_t j = 0; j < fine; ++j) {
            const auto at = [&](int64_t cell, int64_t part) {
              return (static_cast<double>(cell) + (static_cast<double>(part) + 0.5) / fine) /
                     across;
            };
            mass += std::exp(estimator.log_density(
                        {-2 + 5 * at(x, i), static_cast<double>(c), 0.5 * at(y, j)})) *
                    2.5 / (across * across * fine * fine);
          }
        }
        whole += mass;
        const double error = std::sqrt(mass * (1 - mass) / samples);
        CHECK(std::abs(share[{x, c, y}] - mass) < 5 * error + 1e-4);
      }
    }
  }
  CHECK(whole == Approx(1).epsilon(1e-3));
}

TEST_CASE("The search finds a minimum far better than chance, and as well as Optuna") {
  const std::vector<SearchParameter> space = {{.name = "x", .low = -5, .high = 10},
                                              {.name = "y", .low = 0, .high = 15}};
  const auto& expected = golden()["branin"];
  const auto trials = expected["trials"].get<int64_t>();
  const auto mean_best = [&](int64_t startup) {
    double sum = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
      double best = std::numeric_limits<double>::infinity();
      for (const Trial& trial : run(space, trials, startup, seed, [](const auto& at) {
             return std::vector<double>{branin(at)};
           })) {
        best = std::min(best, trial.objectives[0]);
      }
      sum += best / 40;
    }
    return sum;
  };
  const double least = 0.397887;  // of Branin's function
  const double searched = mean_best(10), random = mean_best(trials);
  CHECK(searched - least < 0.4 * (random - least));
  const auto bound = [&](const char* sampler) {
    return expected[sampler]["mean"].get<double>() + 3 * expected[sampler]["error"].get<double>();
  };
  CHECK(searched < bound("tpe"));
  CHECK(random < bound("random"));
}

TEST_CASE("With two objectives the search fills the front") {
  // Minima at 0.2 and 0.8 in x; y must be 0.5 and the choice 1, or both are worse.
  const std::vector<SearchParameter> space = {
      {.name = "x"}, {.name = "y"}, {.name = "c", .choices = 3}};
  const auto objectives = [](const std::vector<double>& at) {
    const double off = std::pow(at[1] - 0.5, 2) + (at[2] == 1 ? 0 : 0.5);
    return std::vector<double>{std::pow(at[0] - 0.2, 2) + off, std::pow(at[0] - 0.8, 2) + off};
  };
  // The hypervolume under (1, 1).
  const auto volume = [](const std::vector<Trial>& trials) {
    const auto front = nondominated(trials);
    std::vector<std::vector<double>> points;
    for (size_t i = 0; i < trials.size(); ++i) {
      if (front[i]) points.push_back(trials[i].objectives);
    }
    std::sort(points.begin(), points.end());
    double sum = 0, above = 1;
    for (const auto& point : points) {
      sum += std::max(0.0, 1 - point[0]) * std::max(0.0, above - point[1]);
      above = std::min(above, point[1]);
    }
    return sum;
  };
  double searched = 0, random = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    searched += volume(run(space, 80, 20, seed, objectives)) / 10;
    random += volume(run(space, 80, 80, seed, objectives)) / 10;
  }
  // Of the true front: x from 0.2 to 0.8, beyond which the second objective stays 0.
  double best = 1 - 0.36;
  for (int i = 0; i < 10000; ++i) {
    const double x = 0.2 + 0.6 * (i + 0.5) / 10000;
    best += (1 - std::pow(x - 0.8, 2)) * 2 * (x - 0.2) * 0.6 / 10000;
  }
  CHECK(searched > random);
  CHECK(searched <= best);
  CHECK(best - searched < 0.5 * (best - random));
}

TEST_CASE("A search is a function of its seed and goes on from where it was") {
  const auto objectives = [](const std::vector<double>& at) {
    return std::vector<double>{at[0] * at[0] + at[1], std::abs(at[2] - 0.2)};
  };
  const auto whole = run(kSpace, 20, 6, 7, objectives);
  std::vector<Trial> part(whole.begin(), whole.begin() + 13);
  CHECK(suggest(kSpace, part, {.startup = 6}, derive_seed(7, "13")) == whole[13].values);
  CHECK(run(kSpace, 20, 6, 8, objectives)[0].values != whole[0].values);
}

TEST_CASE("Fixed parameters stay, empty ranges are refused") {
  const std::vector<SearchParameter> fixed = {{.name = "x", .low = 2, .high = 2},
                                              {.name = "c", .choices = 1}};
  for (const auto& trial :
       run(fixed, 4, 2, 1, [](const auto&) { return std::vector<double>{0.0}; })) {
    CHECK(trial.values == std::vector<double>{2, 0});
  }
  const std::vector<SearchParameter> empty = {{.name = "x", .low = 2, .high = 1}};
  CHECK_THROWS_WITH(suggest(empty, {}, {}, 0), Catch::Contains("'x'") && Catch::Contains("empty"));
}
