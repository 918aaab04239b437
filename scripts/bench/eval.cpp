// Our half of scripts/bench/eval.py: reads the examples of one round a line on stdin, scores them,
// answers with the seconds and the scores.
//
//   bench_eval MODEL
#include <iostream>

#include "core/model/model.h"
#include "core/run/error.h"
#include "core/run/resources.h"
#include "core/tensor/block_cache.h"
#include "eval/score.h"

int main(int argc, char** argv) {
  using namespace resurface;
  keep_tensor_memory();
  try {
    if (argc != 2) fail("usage: bench_eval MODEL");
    const Model model = Model::load(argv[1]);
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
      std::vector<Example> examples;
      for (const auto& e : nlohmann::json::parse(line)) {
        examples.push_back({.prompt = e["prompt"], .answer = e["answer"]});
      }
      const Timer timer;
      const auto scores = score(model, examples);
      nlohmann::json answer = {{"seconds", timer.seconds()}, {"scores", nlohmann::json::array()}};
      for (const Score& s : scores) {
        answer["scores"].push_back({{"logprob", s.logprob},
                                    {"exact_memorization", s.exact_memorization},
                                    {"extraction_strength", s.extraction_strength},
                                    {"greedy_match", s.greedy_match}});
      }
      std::cout << answer.dump() << std::endl;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "bench_eval: " << error.what() << "\n";
    return 1;
  }
}
