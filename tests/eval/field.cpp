// The arithmetic of the field's benchmarks: hand-computed cases, identities, and the values of
// scipy, scikit-learn, NLTK, rouge-score and zlib (scripts/golden_field.py).
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/run/error.h"
#include "core/run/files.h"
#include "eval/field/counterfact.h"
#include "eval/field/membership.h"
#include "eval/field/muse.h"
#include "eval/field/porter.h"
#include "eval/field/statistics.h"
#include "eval/field/tofu.h"
#include "eval/field/words.h"
#include "eval/metrics/metrics.h"

using namespace resurface;
using Numbers = std::vector<double>;

namespace {

const nlohmann::json& golden() {
  static const auto json = read_json(RESURFACE_TEST_DATA "/field/arithmetic.json");
  return json;
}

Numbers random_numbers(uint64_t seed, size_t count) {
  Numbers out;
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    out.push_back(static_cast<double>(seed >> 40));
  }
  return out;
}

}  // namespace

TEST_CASE("KS: by hand") {
  // Of the 6 orders of two and two, D = 1 in 2 and D = 1/2 in the other 4.
  CHECK(ks_two_sample(Numbers{1, 2}, Numbers{3, 4}).statistic == 1);
  CHECK(ks_two_sample(Numbers{1, 2}, Numbers{3, 4}).p == Approx(2.0 / 6));
  CHECK(ks_two_sample(Numbers{1, 3}, Numbers{2, 4}).statistic == 0.5);
  CHECK(ks_two_sample(Numbers{1, 3}, Numbers{2, 4}).p == 1);
  // One against three: D = 1 when it stands at an end, 2 of 4 orders.
  CHECK(ks_two_sample(Numbers{0}, Numbers{1, 2, 3}).p == Approx(2.0 / 4));
}

TEST_CASE("KS: p is 1 against oneself, and what order the values have does not matter") {
  const auto a = random_numbers(1, 50);
  CHECK(ks_two_sample(a, a).p == 1);
  CHECK(ks_two_sample(a, a).statistic == 0);
  auto b = random_numbers(2, 30);
  const auto test = ks_two_sample(a, b);
  std::reverse(b.begin(), b.end());
  CHECK(ks_two_sample(a, b).p == test.p);
  CHECK(ks_two_sample(b, a).p == Approx(test.p));
  for (auto& value : b) value = std::exp(value / 1e7);  // nor any monotone change of both
  auto c = a;
  for (auto& value : c) value = std::exp(value / 1e7);
  CHECK(ks_two_sample(c, b).p == test.p);
}

TEST_CASE("KS: exact values, down to the smallest") {
  for (const auto& entry : golden().at("ks")) {
    const auto test = ks_two_sample(entry.at("a").get<Numbers>(), entry.at("b").get<Numbers>());
    CHECK(test.statistic == Approx(entry.at("statistic").get<double>()).epsilon(1e-12));
    CHECK(test.p == Approx(entry.at("p").get<double>()).epsilon(1e-9).margin(0));
  }
}

TEST_CASE("KS: above 10,000 values the limiting distribution, near the exact one") {
  const auto a = random_numbers(3, 10001), b = random_numbers(4, 400);
  const auto large = ks_two_sample(a, b);
  const auto exact = ks_two_sample(std::span(a).first(10000), b);
  CHECK(large.p == Approx(exact.p).margin(0.03));
  CHECK(exact.p > 0.001);
  CHECK(ks_two_sample(a, a).p == 1);
}

TEST_CASE("AUC and means") {
  CHECK(auc(Numbers{3, 1}, Numbers{2}) == 0.5);
  CHECK(auc(Numbers{2}, Numbers{2, 2}) == 0.5);
  CHECK(auc(Numbers{1, 2, 2}, Numbers{0, 2}) == Approx((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6));
  for (const auto& entry : golden().at("auc")) {
    const auto members = entry.at("members").get<Numbers>();
    const auto others = entry.at("nonmembers").get<Numbers>();
    CHECK(auc(members, others) == Approx(entry.at("auc").get<double>()).epsilon(1e-12));
    CHECK(auc(others, members) == Approx(1 - auc(members, others)));
  }
  for (const auto& entry : golden().at("harmonic_mean")) {
    CHECK(harmonic_mean(entry.at("values").get<Numbers>()) ==
          Approx(entry.at("hmean").get<double>()).epsilon(1e-12));
  }
  CHECK(harmonic_mean(Numbers{1, 0.5}) == Approx(2.0 / 3));
}

TEST_CASE("Statistics of nothing") {
  CHECK_THROWS_AS(mean(Numbers{}), Error);
  CHECK_THROWS_AS(harmonic_mean(Numbers{}), Error);
  CHECK_THROWS_WITH(harmonic_mean(Numbers{1, -1}), Catch::Contains("-1"));
  CHECK_THROWS_AS(ks_two_sample(Numbers{}, Numbers{1}), Error);
  CHECK_THROWS_AS(auc(Numbers{1}, Numbers{}), Error);
  CHECK_THROWS_WITH(auc(Numbers{1}, Numbers{std::nan("")}), Catch::Contains("not a number"));
}

TEST_CASE("Porter's stems are NLTK's, and stemmed ROUGE-L that of rouge-score") {
  REQUIRE(golden().at("stems").size() > 1000);
  for (const auto& entry : golden().at("stems")) {
    INFO(entry.dump());
    CHECK(porter_stem(entry[0]) == entry[1].get<std::string>());
  }
  for (const auto& entry : golden().at("stemmed_rouge")) {
    INFO(entry.dump());
    CHECK(rouge_l(stemmed(entry[0].get<std::string>()), stemmed(entry[1].get<std::string>()))
              .recall == Approx(entry[2].get<double>()));
  }
  CHECK(stemmed("The FISHING boats, 台湾!") == "the fish boat, 台湾!");
}

TEST_CASE("Words are NLTK's, entropies scipy's") {
  for (const auto& entry : golden().at("words")) {
    const std::string text = entry[0];
    INFO(text);
    CHECK(treebank_words(text) == entry[1].get<std::vector<std::string>>());
    CHECK(generation_entropy(text) == Approx(entry[2].get<double>()).margin(1e-12));
  }
  // Four bigrams, all different: 2 bits. Three trigrams: log2 3.
  const std::vector<std::string> words = {"a", "b", "c", "d", "e"};
  CHECK(ngram_entropy(words, 2) == Approx(2));
  CHECK(ngram_entropy(words, 3) == Approx(std::log2(3)));
  CHECK(generation_entropy("a b c d e") == Approx((2.0 / 3 * 2 + 4.0 / 3 * std::log2(3)) / 2));
  CHECK(ngram_entropy(words, 6) == 0);
  CHECK(generation_entropy("no no no no no no no") == 0);
  CHECK_THROWS_WITH(treebank_words("\xFF"), Catch::Contains("UTF-8"));
}

TEST_CASE("TF-IDF likeness is scikit-learn's") {
  const Tfidf tfidf(golden().at("documents").get<std::vector<std::string>>());
  for (const auto& entry : golden().at("tfidf")) {
    INFO(entry.dump());
    CHECK(tfidf.similarity(entry[0], entry[1]) == Approx(entry[2].get<double>()).margin(1e-12));
  }
  CHECK(tfidf.similarity("the cat", "the cat") == Approx(1));
}

TEST_CASE("TOFU: truth ratio") {
  // P(perturbed) = e^-3 (mean NLL 3), P(paraphrase) = e^-2: r = 1/e.
  const double r = truth_ratio(2, Numbers{2.5, 3.5});
  CHECK(r == Approx(std::exp(-1)));
  CHECK(forget_truth(Numbers{0.5, 4, 1}) == Approx((0.5 + 0.25 + 1) / 3));
  CHECK(retain_truth(Numbers{0.5, 4, 1}) == Approx(0.5 / 3));
  // Nothing known: all answers equally likely, and the forget form says 1.
  CHECK(forget_truth(Numbers{truth_ratio(7, Numbers{7, 7})}) == 1);
  CHECK(choice_probability(1, Numbers{1, 1, 1}) == Approx(0.25));
  CHECK(choice_probability(2000, Numbers{2001}) == Approx(1 / (1 + std::exp(-1))));
}

TEST_CASE("MUSE: privacy leakage") {
  for (const double oracle : {0.0, 0.3, 0.5, 0.99}) CHECK(privacy_leak(oracle, oracle) == 0);
  CHECK(privacy_leak(1, 0.5) == Approx(-100));  // nothing was forgotten
  CHECK(privacy_leak(0, 0.5) == Approx(100));   // forgotten texts stick out
  CHECK(privacy_leak(0.6, 0.5) == Approx(-20));
  CHECK_THROWS_AS(privacy_leak(0.5, 1), Error);
}

TEST_CASE("Membership: by hand") {
  CHECK(min_k(Numbers{-1, -5, -2, -4, -3}, 0.4) == Approx(-4.5));
  CHECK(min_k(Numbers{-1, -5, -2, -4, -3}, 0.59) == Approx(-4.5));  // floor(2.95) tokens
  CHECK(min_k(Numbers{-1, -3}, 0.2) == -3);                         // one at least
  CHECK(min_k(Numbers{-1, -3}, 1) == -2);
  CHECK_THROWS_AS(min_k(Numbers{}, 0.2), Error);
  TokenScores scores;
  scores.logprob = {-1, -4};
  scores.mean = {-2, -1};
  scores.deviation = {2, 1.5};
  CHECK(standardised(scores) == Numbers{0.5, -2});
  CHECK(scores.nll() == 2.5);
  for (const auto& entry : golden().at("zlib")) {
    CHECK(zlib_bytes(entry[0]) == entry[1].get<int64_t>());
  }
}

TEST_CASE("CounterFact: success and magnitude") {
  TargetResult better, worse;
  better.nll = std::log(2), better.nll_other = std::log(4), better.prefers = true;
  worse.nll = std::log(5), worse.nll_other = std::log(2), worse.prefers = false;
  CHECK(success(std::vector{better, worse, better}) == Approx(2.0 / 3));
  CHECK(magnitude(std::vector{better, worse}) == Approx((0.25 - 0.3) / 2));
}
