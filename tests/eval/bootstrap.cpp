#include "eval/bootstrap.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <random>

#include "core/run/error.h"

using namespace resurface;

namespace {

Statistic mean_of(std::vector<double> sums, std::vector<double> counts) {
  return [sums = std::move(sums), counts = std::move(counts)](std::span<const double> weights) {
    return std::vector<double>{weighted_mean(weights, sums, counts)};
  };
}

}  // namespace

TEST_CASE("Bootstrap intervals equal numpy's over the same draws") {
  std::ifstream file(std::string(RESURFACE_TEST_DATA) + "/eval/golden.json");
  REQUIRE(file);
  const auto golden = nlohmann::json::parse(file);
  for (const auto& entry : golden.at("bootstrap")) {
    const auto sums = entry.at("sums").get<std::vector<double>>();
    const auto found = bootstrap(static_cast<int64_t>(sums.size()),
                                 mean_of(sums, entry.at("counts").get<std::vector<double>>()),
                                 {.resamples = entry.at("resamples").get<int64_t>(),
                                  .level = entry.at("level").get<double>(),
                                  .seed = entry.at("seed").get<int64_t>()});
    REQUIRE(found.size() == 1);
    CHECK(found[0].estimate == Approx(entry.at("mean").get<double>()).epsilon(1e-12));
    CHECK(found[0].low == Approx(entry.at("low").get<double>()).epsilon(1e-12));
    CHECK(found[0].high == Approx(entry.at("high").get<double>()).epsilon(1e-12));
  }
}

TEST_CASE("A 90% interval covers the true mean about that often") {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(1, 2);
  int covered = 0;
  constexpr int kTrials = 400;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> sums(40), counts(40, 1);
    for (auto& sum : sums) sum = normal(random);
    const auto found =
        bootstrap(40, mean_of(sums, counts), {.resamples = 200, .level = 0.9, .seed = trial})[0];
    covered += found.low <= 1 && 1 <= found.high;
  }
  // Binomial(400, .88) with three standard deviations either side.
  CHECK(covered > 333);
  CHECK(covered < 376);
}

TEST_CASE("Measurements of a line move together") {
  // Two clusters of 100 equal measurements: resampling measurements would give a narrow interval.
  const auto found = bootstrap(2, mean_of({0, 100}, {100, 100}), {.resamples = 400})[0];
  CHECK(found.estimate == 0.5);
  CHECK(found.low == 0);
  CHECK(found.high == 1);
}

TEST_CASE("Undefined and infinite figures") {
  const auto found =
      bootstrap(3,
                [](std::span<const double> weights) {
                  return std::vector<double>{std::nan(""), weights[0] > 0 ? INFINITY : 1.0, 2.0};
                },
                {});
  CHECK(std::isnan(found[0].estimate));
  CHECK(std::isnan(found[0].low));
  CHECK(found[1].low == 1);
  CHECK(std::isinf(found[1].high));
  CHECK(found[2].low == 2);
  CHECK(nlohmann::json(found[1]).dump() == R"({"high":null,"low":1.0,"mean":null})");
  CHECK_THROWS_AS(bootstrap(0, mean_of({}, {}), {}), Error);
  CHECK(quantile(std::vector<double>{1, 2, 4}, 0.25) == 1.5);
  CHECK(quantile(std::vector<double>{1, INFINITY, INFINITY}, 0.75) == INFINITY);
}
