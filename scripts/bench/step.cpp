// Our half of scripts/bench/step.py: reads one batch a line on stdin, takes one optimiser step of
// full fine-tuning, answers with its seconds and loss.
//
//   bench_step MODEL fp32|bf16 LEARNING_RATE
#include <iostream>

#include "core/model/model.h"
#include "core/run/error.h"
#include "core/run/resources.h"
#include "core/tensor/block_cache.h"
#include "finetune/adamw.h"

int main(int argc, char** argv) {
  using namespace resurface;
  keep_tensor_memory();
  try {
    if (argc != 4) fail("usage: bench_step MODEL fp32|bf16 LEARNING_RATE");
    Model model = Model::load(argv[1]);
    model.set_compute(std::string(argv[2]) == "bf16" ? at::kBFloat16 : at::kFloat);
    model.require_grad(true);
    AdamW optimizer(model.parameters(), {});
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
      std::vector<Example> examples;
      for (const auto& e : nlohmann::json::parse(line)) {
        examples.push_back({.prompt = e["prompt"], .answer = e["answer"]});
      }
      const Timer timer;
      const at::Tensor loss = model.token_nll(pack(std::span<const Example>(examples)));
      loss.backward();
      const double norm = optimizer.gradient_norm().item<double>();
      optimizer.step(std::stod(argv[3]), std::max(1.0, norm));
      optimizer.clear_gradients();
      std::cout
          << nlohmann::json{{"seconds", timer.seconds()}, {"loss", loss.item<double>()}}.dump()
          << std::endl;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "bench_step: " << error.what() << "\n";
    return 1;
  }
}
