// Logits of every position, for scripts/parity_logits.py: one JSON list of ids a line on stdin,
// fp32 rows on stdout.
//
//   bench_logits MODEL
#include <iostream>

#include "core/model/model.h"
#include "core/run/error.h"

int main(int argc, char** argv) {
  using namespace resurface;
  try {
    if (argc != 2) fail("usage: bench_logits MODEL");
    at::NoGradGuard no_grad;
    const Model model = Model::load(argv[1]);
    for (std::string line; std::getline(std::cin, line);) {
      const std::vector<std::vector<int64_t>> ids = {nlohmann::json::parse(line)};
      const at::Tensor logits = model.logits(model.hidden(pack_sequences(ids))).contiguous();
      std::cout.write(static_cast<const char*>(logits.const_data_ptr()),
                      static_cast<std::streamsize>(logits.nbytes()));
    }
    return std::cout.flush() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "bench_logits: " << error.what() << "\n";
    return 1;
  }
}
