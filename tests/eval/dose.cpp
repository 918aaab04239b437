// A metric must be able to fail: models taught a known share of the lines.
#include <catch2/catch.hpp>

#include "eval/score.h"
#include "finetune/sft.h"
#include "tests/eval/tiny.h"

using namespace resurface;
using namespace resurface::test;

namespace {

constexpr int64_t kLines = 8;

Example line(int64_t i) {
  return {.prompt = {i, 59}, .answer = random_ids(static_cast<uint64_t>(500 + i), 6)};
}
Example retained(int64_t i) {
  return {.prompt = {20 + i, 59}, .answer = random_ids(static_cast<uint64_t>(700 + i), 6)};
}

struct Means {
  double logprob = 0, exact = 0, strength = 0, match = 0;
};

Means means(const Model& model, const std::vector<Example>& examples) {
  Means m;
  const auto n = static_cast<double>(examples.size());
  for (const auto& s : score(model, examples)) {
    m.logprob += s.logprob / static_cast<double>(s.tokens) / n;
    m.exact += s.exact_memorization / n;
    m.strength += s.extraction_strength / n;
    m.match += (s.greedy_match ? 1 : 0) / n;
  }
  return m;
}

}  // namespace

TEST_CASE("Taught 0, 25, 50, 75 and 100% of the lines, every axis rises and retain does not") {
  std::vector<Example> lines, retain;
  for (int64_t i = 0; i < kLines; ++i) {
    lines.push_back(line(i));
    retain.push_back(retained(i));
  }
  std::vector<Means> of_lines, of_retain;
  for (int64_t taught = 0; taught <= kLines; taught += kLines / 4) {
    auto model = Model::random(tiny_config(), 5);
    auto examples = retain;
    examples.insert(examples.end(), lines.begin(), lines.begin() + taught);
    TrainerSettings s;
    s.learning_rate = 5e-3;
    s.steps = 250;
    s.batch_size = 16;
    s.compute = "fp32";
    train(model, sft, sft_needs, {.forget = examples}, s, 0);
    of_lines.push_back(means(model, lines));
    of_retain.push_back(means(model, retain));
  }
  for (size_t dose = 0; dose < of_lines.size(); ++dose) {
    INFO("dose " << dose);
    const double share = static_cast<double>(dose) / 4;
    // What was taught is known whole; what was not, next to nothing of it.
    CHECK(of_lines[dose].match == Approx(share));
    CHECK(of_lines[dose].strength == Approx(share).margin(0.1));
    CHECK(of_lines[dose].exact == Approx(share).margin(0.25));
    if (dose > 0) {
      CHECK(of_lines[dose].logprob > of_lines[dose - 1].logprob + 0.3);
      CHECK(of_lines[dose].exact > of_lines[dose - 1].exact);
    }
    CHECK(of_retain[dose].match == 1);
    CHECK(of_retain[dose].logprob == Approx(of_retain[0].logprob).margin(0.05));
  }
}
