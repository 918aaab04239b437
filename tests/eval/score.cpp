#include "eval/score.h"

#include <catch2/catch.hpp>

#include "core/model/generate.h"
#include "core/run/error.h"
#include "tests/devices.h"
#include "tests/eval/tiny.h"

using namespace resurface;
using namespace resurface::test;

TEST_CASE("Scores are those of a plain forward pass over every position") {
  // With a prefix that all prompts share, it is run once, behind a cache.
  const bool shared = GENERATE(false, true);
  for (const auto device : devices()) {
    const auto model = Model::random(tiny_config(), 3, device);
    std::vector<Example> examples;
    for (int64_t i = 0; i < 9; ++i) {
      examples.push_back(random_example(i, 2 + i % 4, 1 + i));
      if (!shared) continue;
      const auto prefix = random_ids(999, 12);
      auto& prompt = examples.back().prompt;
      prompt.insert(prompt.begin(), prefix.begin(), prefix.end());
    }
    // One batch, several, and one example each must agree.
    const auto all = score(model, examples, 4096);
    const auto few = score(model, examples, 24);
    REQUIRE(all.size() == examples.size());

    at::NoGradGuard no_grad;
    for (size_t i = 0; i < examples.size(); ++i) {
      const auto& example = examples[i];
      auto ids = example.prompt;
      ids.insert(ids.end(), example.answer.begin(), example.answer.end());
      const std::vector<std::vector<int64_t>> sequences = {ids};
      const auto logits =
          model.logits(model.hidden(pack_sequences(sequences, device))).to(at::kCPU, at::kDouble);
      const auto logprob = logits.log_softmax(1);
      const auto argmax = logits.argmax(1);
      double sum = 0, right = 0, tail = 0;
      for (size_t t = 0; t < example.answer.size(); ++t) {
        const auto row = static_cast<int64_t>(example.prompt.size() + t) - 1;
        sum += logprob[row][example.answer[t]].item<double>();
        const bool hit = argmax[row].item<int64_t>() == example.answer[t];
        right += hit;
        tail = hit ? tail + 1 : 0;
      }
      const auto tokens = static_cast<double>(example.answer.size());
      for (const auto& s : {all[i], few[i]}) {
        CHECK(s.tokens == static_cast<int64_t>(tokens));
        CHECK(s.logprob == Approx(sum).epsilon(1e-4));
        CHECK(s.exact_memorization == Approx(right / tokens));
        CHECK(s.extraction_strength == Approx(tail / tokens));
      }
    }
  }
}

TEST_CASE("Stacked adapters score as each does alone") {
  const bool shared = GENERATE(false, true);
  for (const auto device : devices()) {
    at::NoGradGuard no_grad;
    at::manual_seed(8);
    auto model = Model::random(tiny_config(), 3, device);
    std::vector<Example> examples;
    for (int64_t i = 0; i < 9; ++i) {
      examples.push_back(random_example(i, 2 + i % 4, 1 + i));
      if (!shared) continue;
      const auto prefix = random_ids(999, 12);
      auto& prompt = examples.back().prompt;
      prompt.insert(prompt.begin(), prefix.begin(), prefix.end());
    }
    REQUIRE_THROWS_WITH(score_stacked(model, examples, std::vector<int64_t>{0}),
                        Catch::Contains("a stack of 0"));
    for (Linear* linear : model.linears()) {
      const auto options = linear->weight.options();
      linear->lora = LoraPair{at::randn({4, 4, linear->weight.size(1)}, options) * 0.2,
                              at::randn({4, linear->weight.size(0), 4}, options) * 0.2, 1};
    }
    const std::vector<int64_t> adapters = {0, 1, 3};
    const auto all = score_stacked(model, examples, adapters, 4096);
    const auto few = score_stacked(model, examples, adapters, 100);
    REQUIRE(all.size() == adapters.size());
    CHECK(all[0][0].logprob != Approx(all[1][0].logprob));
    CHECK(score_stacked(model, examples, {}).empty());
    REQUIRE_THROWS_WITH(score_stacked(model, examples, std::vector<int64_t>{1, 0}),
                        Catch::Contains("ascending"));
    auto alone = model.clone();
    for (size_t k = 0; k < adapters.size(); ++k) {
      for (size_t l = 0; l < model.linears().size(); ++l) {
        const LoraPair& stack = *model.linears()[l]->lora;
        alone.linears()[l]->lora =
            LoraPair{stack.a[adapters[k]], stack.b[adapters[k]], stack.scale};
      }
      const auto expected = score(alone, examples);
      for (size_t i = 0; i < examples.size(); ++i) {
        for (const auto& s : {all[k][i], few[k][i]}) {
          CHECK(s.logprob == Approx(expected[i].logprob).epsilon(1e-5));
          CHECK(s.tokens == expected[i].tokens);
          CHECK(s.exact_memorization == expected[i].exact_memorization);
          CHECK(s.extraction_strength == expected[i].extraction_strength);
          CHECK(s.greedy_match == expected[i].greedy_match);
        }
      }
    }
  }
}

TEST_CASE("What greedy decoding says is a greedy match") {
  const auto model = Model::random(tiny_config(), 4);
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < 4; ++i) prompts.push_back(random_example(i, 3 + i, 1).prompt);
  GenerateOptions options;
  options.max_tokens = 6;
  const auto said = generate(model, prompts, options);
  std::vector<Example> examples;
  for (size_t i = 0; i < prompts.size(); ++i)
    examples.push_back({.prompt = prompts[i], .answer = said[i], .weight = 1, .tags = {}});
  for (const auto& s : score(model, examples)) {
    CHECK(s.greedy_match);
    CHECK(s.extraction_strength == 1);
    CHECK(s.exact_memorization == 1);
  }
  for (auto& example : examples) example.answer.back() = (example.answer.back() + 1) % kVocab;
  for (const auto& s : score(model, examples)) {
    CHECK_FALSE(s.greedy_match);
    CHECK(s.extraction_strength == 0);
    CHECK(s.exact_memorization == Approx(5.0 / 6));
  }
}

TEST_CASE("Nothing to score") {
  const auto model = Model::random(tiny_config(), 4);
  CHECK(score(model, {}).empty());
  const std::vector<Example> empty = {{.prompt = {1}, .answer = {}, .weight = 1, .tags = {}}};
  CHECK_THROWS_WITH(score(model, empty), Catch::Contains("empty answer"));
}
