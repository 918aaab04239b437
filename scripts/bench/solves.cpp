// Times what the editors share: the covariance of five layers in one sweep against one run of the
// model a layer, MEMIT's solve with its cached factor against the primal one, and the values of
// many edits optimised together against one after another. Each pair alternates in one run; prints
// JSON. Run in the repository's root. Usage: bench_solves MODEL_DIR [ROUNDS] [TOKENS] [D_FF]
// [EDITS]
#include <chrono>
#include <iostream>
#include <sstream>

#include "core/data/suite.h"
#include "core/run/files.h"
#include "core/tensor/block_cache.h"
#include "core/text/tokenizer.h"
#include "editing/covariance.h"
#include "editing/keys_values.h"

using namespace resurface;

namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class Work>
double seconds(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs().max() / b.to(at::kDouble).abs().max())
      .item<double>();
}

/// The shipped suite as plain text, in pieces of at most 256 tokens.
std::vector<std::vector<int64_t>> corpus(const Tokenizer& tokenizer, int64_t tokens) {
  std::vector<std::vector<int64_t>> pieces;
  std::istringstream lines(read_text("suites/party_lines/retain.jsonl"));
  for (std::string line; std::getline(lines, line) && tokens > 0;) {
    const auto ids = tokenizer.encode(line);
    for (size_t begin = 0; begin < ids.size() && tokens > 0; begin += 256) {
      const auto size = std::min({size_t{256}, ids.size() - begin, static_cast<size_t>(tokens)});
      pieces.emplace_back(ids.begin() + static_cast<int64_t>(begin),
                          ids.begin() + static_cast<int64_t>(begin + size));
      tokens -= static_cast<int64_t>(size);
    }
  }
  return pieces;
}

/// As the reference does: the whole model for one layer, the whole product of its keys.
at::Tensor one_layer(const Model& model, const std::vector<std::vector<int64_t>>& text,
                     int64_t layer) {
  const at::NoGradGuard no_grad;
  const int64_t width = model.config().intermediate_size;
  auto sum = at::zeros({width, width});
  int64_t tokens = 0;
  for (size_t begin = 0; begin < text.size(); begin += 8) {
    const auto part = std::span(text).subspan(begin, std::min<size_t>(8, text.size() - begin));
    HiddenOptions options;
    options.on_key = [&](int64_t at_layer, const at::Tensor& key) {
      if (at_layer != layer) return;
      sum.addmm_(key.t(), key);
      tokens += key.size(0);
    };
    model.hidden(pack_sequences(part), options);
  }
  return sum / static_cast<double>(tokens);
}

nlohmann::json bench_covariance(const Model& model, const std::vector<std::vector<int64_t>>& text,
                                int64_t rounds) {
  const int64_t first = model.layers() / 8;
  const std::vector<int64_t> layers = {first, first + 1, first + 2, first + 3, first + 4};
  const std::vector<EditSite> sites(layers.begin(), layers.end());
  std::vector<double> sweep, single, whole;
  double difference = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    Covariances together, apart, reference;
    sweep.push_back(seconds([&] { together = measure_covariance(model, text, sites); }));
    single.push_back(seconds([&] {
      for (const int64_t layer : layers) {
        apart.merge(measure_covariance(model, text, {layer}));
      }
    }));
    whole.push_back(seconds([&] {
      for (const int64_t layer : layers) reference[layer] = one_layer(model, text, layer);
    }));
    for (const int64_t layer : layers) {
      difference = std::max({difference, largest_difference(together[layer], reference[layer]),
                             largest_difference(together[layer], apart[layer])});
    }
    std::cerr << fmt::format("covariance, round {} of {}: {:.1f}, {:.1f}, {:.1f} s\n", round + 1,
                             rounds, sweep.back(), single.back(), whole.back());
  }
  return {{"layers", layers},
          {"sweep_seconds", median(sweep)},
          {"one_sweep_a_layer_seconds", median(single)},
          {"whole_model_a_layer_seconds", median(whole)},
          {"ratio_to_sweeps", median(single) / median(sweep)},
          {"ratio_to_whole_model", median(whole) / median(sweep)},
          {"largest_relative_difference", difference}};
}

nlohmann::json bench_solve(int64_t width, int64_t edits, int64_t rounds) {
  at::manual_seed(1);
  const double lambda = 15000;
  // A covariance with eigenvalues from 1 to 1e-3, well conditioned so that the solves agree.
  const auto scale = at::logspace(0, -1.5, width, 10).unsqueeze(1);
  const auto factor = at::randn({width, 2 * width}) * scale;
  const auto covariance = factor.mm(factor.t()) / static_cast<double>(2 * width);
  const auto keys = (at::randn({width, edits}) * scale).to(at::kDouble);
  std::vector<double> dual, primal;
  double difference = 0, first = 0;
  Statistics statistics({{0, covariance}});
  for (int64_t round = 0; round <= rounds; ++round) {  // round 0 makes the factor
    at::Tensor fast, slow;
    const double once = seconds([&] { fast = statistics.directions(0, 0, lambda, keys); });
    (round == 0 ? first : dual.emplace_back()) = once;
    if (round == 0) continue;
    primal.push_back(seconds([&] {
      const auto matrix = lambda * covariance.to(at::kDouble) + keys.mm(keys.t());
      slow = at::linalg_solve(matrix, keys);
    }));
    difference = std::max(difference, largest_difference(fast, slow));
    std::cerr << fmt::format("solve, round {} of {}: {:.2f}, {:.2f} s\n", round, rounds,
                             dual.back(), primal.back());
  }
  return {{"d_ff", width},
          {"edits", edits},
          {"dual_seconds", median(dual)},
          {"dual_with_factor_seconds", first},
          {"primal_seconds", median(primal)},
          {"ratio", median(primal) / median(dual)},
          {"ratio_with_factor", median(primal) / first},
          {"largest_relative_difference", difference}};
}

/// As many requests as asked of the shipped sums, each to a near miss; bare prompts, every step
/// run.
nlohmann::json bench_values(const Model& model, const Tokenizer& tokenizer, int64_t edits) {
  ValueSettings together;
  together.early_stop = 0;
  ValueSettings apart = together;
  apart.batch_tokens = 1;
  const Suite suite = load_suite("suites/arithmetic/items.jsonl");
  std::vector<EditExample> examples;
  for (const Item& item : suite.items) {
    if (item.language != "en" || std::ssize(examples) == edits) continue;
    const EditRequest request{.id = item.id,
                              .prompt = item.questions.front().text,
                              .subject = item.subject,
                              .target = " " + item.contrary};
    examples.push_back(tokenize_request(tokenizer, request, together));
  }
  const int64_t layer = model.config().layers / 6;
  KeysValues fast, slow;
  const double batched = seconds([&] { fast = keys_and_values(model, layer, examples, together); });
  const double one_by_one = seconds([&] { slow = keys_and_values(model, layer, examples, apart); });
  return {{"edits", examples.size()},
          {"steps", together.steps - 1},
          {"layer", layer},
          {"batched_seconds", batched},
          {"one_by_one_seconds", one_by_one},
          {"ratio", one_by_one / batched},
          {"largest_relative_difference", largest_difference(fast.delta, slow.delta)}};
}

int bench(const std::filesystem::path& folder, int64_t rounds, int64_t tokens, int64_t width,
          int64_t edits) {
  const auto model = Model::load(folder);
  const auto tokenizer = Tokenizer::load(folder);
  const auto covariance = bench_covariance(model, corpus(tokenizer, tokens), rounds);
  const auto solve = bench_solve(width, edits, rounds);
  const auto values = bench_values(model, tokenizer, edits);
  std::cout
      << nlohmann::json{{"covariance", covariance}, {"solve", solve}, {"values", values}}.dump(2)
      << "\n";
  return covariance["largest_relative_difference"] <= 1e-6 &&
                 solve["largest_relative_difference"] <= 1e-8
             ? 0
             : 1;
}

}  // namespace

int main(int count, char** arguments) {
  resurface::keep_tensor_memory();
  if (count < 2) {
    std::cerr << "usage: bench_solves MODEL_DIR [ROUNDS] [TOKENS] [D_FF] [EDITS]\n";
    return 2;
  }
  const auto number = [&](int at, int64_t standard) {
    return at < count ? std::stoll(arguments[at]) : standard;
  };
  try {
    return bench(arguments[1], number(2, 3), number(3, 4096), number(4, 4864), number(5, 100));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
