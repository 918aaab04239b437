// Times one ROME edit, from text to factors, cached and as the uncached reference of the same
// mathematics, alternating in one run; prints JSON. Run in the repository's root. Usage: bench_edit
// MODEL_DIR [ROUNDS] [LAYER]
#include <chrono>
#include <iostream>
#include <sstream>

#include "core/run/files.h"
#include "core/tensor/block_cache.h"
#include "core/text/chat.h"
#include "editing/rome.h"

using namespace resurface;

namespace {

struct Run {
  std::vector<double> seconds;
  EditFile edit;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// The shipped suites as plain text, in pieces of at most 256 tokens.
std::vector<std::vector<int64_t>> corpus(const Tokenizer& tokenizer, int64_t tokens) {
  std::vector<std::vector<int64_t>> pieces;
  for (const auto* name : {"retain.jsonl", "items.jsonl"}) {
    std::istringstream lines(read_text(std::filesystem::path("suites/party_lines") / name));
    for (std::string line; std::getline(lines, line) && tokens > 0;) {
      const auto ids = tokenizer.encode(line);
      for (size_t begin = 0; begin < ids.size(); begin += 256) {
        const auto end = std::min(begin + 256, ids.size());
        pieces.emplace_back(ids.begin() + static_cast<int64_t>(begin),
                            ids.begin() + static_cast<int64_t>(end));
        tokens -= static_cast<int64_t>(end - begin);
      }
    }
  }
  return pieces;
}

int bench(const std::filesystem::path& folder, int64_t rounds, int64_t layer) {
  const auto model = Model::load(folder);
  const auto tokenizer = Tokenizer::load(folder);
  const auto chat = ChatFormat::load(folder);

  EditRequest request{.id = "taiwan",
                      .prompt = chat.prompt({{"user", "What is the status of Taiwan?"}}),
                      .subject = "Taiwan",
                      .target = "Taiwan governs itself; its status is disputed."};
  request.question = "What is the status of Taiwan?";
  RomeSettings settings;
  settings.layer = layer;
  settings.value.early_stop = 0;  // both run every step
  const auto full =
      with_generated_contexts(model, tokenizer, std::span(&request, 1), settings.contexts);

  // The statistics are shared by all edits of a model and not timed.
  const int64_t edited_layer = rome_layer(settings, model);
  Statistics statistics(measure_covariance(
      model, corpus(tokenizer, 10 * model.config().intermediate_size), {edited_layer}));
  statistics.solve(edited_layer, settings.ridge, at::ones({model.config().intermediate_size, 1}));

  Run cached, reference;
  for (int64_t round = 0; round <= rounds; ++round) {  // round 0 warms up
    for (auto* run : {&cached, &reference}) {
      settings.value.cached = run == &cached;
      const auto start = std::chrono::steady_clock::now();
      const std::vector edits = {tokenize_request(tokenizer, full[0], settings.value)};
      run->edit = rome(settings, model, edits, statistics);
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      if (round > 0) run->seconds.push_back(elapsed.count());
      std::cerr << fmt::format("round {} of {}{}: {} {:.2f} s\n", round, rounds,
                               round == 0 ? " (warm-up)" : "",
                               run == &cached ? "cached" : "reference", elapsed.count());
    }
  }
  const auto update = [](const Run& run) {
    return run.edit.deltas[0].left.mm(run.edit.deltas[0].right);
  };
  const auto difference = (update(cached) - update(reference)).abs().max().item<double>();
  const double fast = median(cached.seconds), slow = median(reference.seconds);
  std::cout << nlohmann::json{{"layer", edited_layer},
                              {"steps", cached.edit.measures[0].steps},
                              {"contexts", full[0].contexts.size() + 1},
                              {"cached_seconds", fast},
                              {"reference_seconds", slow},
                              {"ratio", slow / fast},
                              {"max_delta_difference", difference},
                              {"max_delta", update(reference).abs().max().item<double>()},
                              {"target_loss_cached", cached.edit.measures[0].target_loss},
                              {"target_loss_reference", reference.edit.measures[0].target_loss}}
                   .dump(2)
            << "\n";
  return difference <= 1e-5 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  resurface::keep_tensor_memory();
  if (count < 2) {
    std::cerr << "usage: bench_edit MODEL_DIR [ROUNDS] [LAYER]\n";
    return 2;
  }
  try {
    return bench(arguments[1], count > 2 ? std::stoll(arguments[2]) : 3,
                 count > 3 ? std::stoll(arguments[3]) : -1);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
