#include "eval/metrics/metrics.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/run/error.h"

using namespace resurface;

namespace {

std::vector<std::vector<char>> all_patterns(size_t length) {
  std::vector<std::vector<char>> out;
  for (size_t bits = 0; bits < (size_t{1} << length); ++bits) {
    std::vector<char> pattern;
    for (size_t i = 0; i < length; ++i) pattern.push_back((bits >> i) & 1 ? 1 : 0);
    out.push_back(pattern);
  }
  return out;
}

}  // namespace

TEST_CASE("Memorisation of hand-made argmax patterns") {
  const bool pattern[] = {true, false, true, true};
  CHECK(exact_memorization(pattern) == 0.75);
  CHECK(extraction_strength(pattern) == 0.5);  // k = 2: after the two first tokens all are right
  CHECK_FALSE(greedy_match(pattern));

  const bool last_wrong[] = {true, true, false};
  CHECK(exact_memorization(last_wrong) == Approx(2.0 / 3));
  CHECK(extraction_strength(last_wrong) == 0);

  const bool all[] = {true, true};
  CHECK(exact_memorization(all) == 1);
  CHECK(extraction_strength(all) == 1);
  CHECK(greedy_match(all));

  CHECK_THROWS_AS(exact_memorization({}), Error);
  CHECK_THROWS_AS(extraction_strength({}), Error);
}

TEST_CASE("Extraction strength is its definition, and 1 iff exact memorisation is 1") {
  for (size_t length = 1; length <= 8; ++length) {
    for (const auto& pattern : all_patterns(length)) {
      const auto flags = std::make_unique<bool[]>(length);
      std::copy(pattern.begin(), pattern.end(), flags.get());
      const std::span<const bool> right(flags.get(), length);
      // The smallest k for which every token after the k-th is right, tried in order.
      size_t k = 0;
      while (std::any_of(pattern.begin() + static_cast<ptrdiff_t>(k), pattern.end(),
                         [](char r) { return r == 0; }))
        ++k;
      const double expected = static_cast<double>(length - k) / static_cast<double>(length);
      REQUIRE(extraction_strength(right) == expected);
      REQUIRE((extraction_strength(right) == 1) == (exact_memorization(right) == 1));
      REQUIRE(greedy_match(right) == (exact_memorization(right) == 1));
      REQUIRE(extraction_strength(right) <= exact_memorization(right));
    }
  }
}

TEST_CASE("Margin is a difference of token means") {
  CHECK(margin(-2, 4, -6, 3) == 1.5);
  CHECK(margin(-6, 3, -2, 4) == -1.5);
}

TEST_CASE("Longest common substrings equal difflib's") {
  std::ifstream file(std::string(RESURFACE_TEST_DATA) + "/eval/golden.json");
  REQUIRE(file);
  const auto golden = nlohmann::json::parse(file);
  for (const auto& entry : golden.at("substrings")) {
    const auto a = entry.at("a").get<std::string>(), b = entry.at("b").get<std::string>();
    CAPTURE(a, b);
    CHECK(longest_common_substring(a, b) == entry.at("length").get<size_t>());
    CHECK(longest_common_substring(b, a) == entry.at("length").get<size_t>());
  }
}

TEST_CASE("The share said counts characters, not bytes") {
  CHECK(said_share("台湾abcd", "台湾") == Approx(2.0 / 6));
  CHECK(said_share("台湾", "在台湾，") == 1);
  CHECK(said_share("台湾", "") == 0);
  CHECK(said_share("", "台湾") == 0);
  // The two characters share their first byte; that is no common character.
  CHECK(longest_common_substring("台", "后") == 0);
}
