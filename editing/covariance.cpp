#include "editing/covariance.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/hash.h"

namespace resurface {
namespace {

/// sum += KᵀK in the lower block triangle: half the products of a full matrix multiplication.
void add_symmetric(at::Tensor& sum, const at::Tensor& keys) {
  constexpr int64_t panel = 256;
  const int64_t n = keys.size(1);
  for (int64_t begin = 0; begin < n; begin += panel) {
    const int64_t end = std::min(begin + panel, n);
    auto product =
        at::mm(keys.slice(1, begin).t(), keys.slice(1, begin, end));  // [n - begin, panel]
    sum.slice(0, begin).slice(1, begin, end).add_(product);
  }
}

/// The lower triangle (diagonal blocks are whole) mirrored upwards.
at::Tensor mirrored(const at::Tensor& lower) { return lower.tril() + lower.tril(-1).t(); }

int64_t count_tokens(std::span<const std::vector<int64_t>> corpus) {
  int64_t tokens = 0;
  for (const auto& sequence : corpus) tokens += static_cast<int64_t>(sequence.size());
  return tokens;
}

std::string corpus_hash(std::span<const std::vector<int64_t>> corpus) {
  Hasher hasher;
  const auto bytes = [](const auto* data, size_t count) {
    return std::string_view(reinterpret_cast<const char*>(data), count * sizeof *data);
  };
  for (const auto& sequence : corpus) {
    const uint64_t size = sequence.size();  // so that the split into sequences counts
    hasher.add(bytes(&size, 1)).add(bytes(sequence.data(), sequence.size()));
  }
  return hasher.hex();
}

}  // namespace

std::map<int64_t, at::Tensor> measure_covariance(const Model& model,
                                                 std::span<const std::vector<int64_t>> corpus,
                                                 const std::vector<int64_t>& layers,
                                                 int64_t batch_tokens) {
  if (layers.empty()) return {};
  const int64_t tokens = count_tokens(corpus);
  if (tokens == 0) fail("covariance: the corpus has no tokens; give text to measure it on");
  const auto& config = model.config();
  std::map<int64_t, at::Tensor> sums;
  for (const int64_t layer : layers) {
    if (layer < 0 || layer >= config.layers) {
      fail("covariance: layer {} asked, the model has layers 0 .. {}", layer, config.layers - 1);
    }
    const int64_t width = config.key_width(layer);
    if (width == 0) {
      fail("covariance: layer {} has routed experts alone, whose keys are not every token's",
           layer);
    }
    sums[layer] = at::zeros({width, width}, at::dtype(at::kDouble).device(model.device()));
  }

  const at::NoGradGuard no_grad;
  HiddenOptions options;
  options.last = sums.rbegin()->first + 1;
  options.stop_at_key = true;
  options.on_key = [&](int64_t layer, const at::Tensor& key) {
    if (const auto found = sums.find(layer); found != sums.end()) {
      add_symmetric(found->second, key.to(at::kFloat));
    }
  };
  std::vector<std::vector<int64_t>> batch;
  int64_t batched = 0;
  const auto flush = [&] {
    if (batch.empty()) return;
    model.hidden(pack_sequences(batch, model.device()), options);
    batch.clear();
    batched = 0;
  };
  for (const auto& sequence : corpus) {
    const auto size = static_cast<int64_t>(sequence.size());
    if (size == 0) continue;
    if (batched + size > batch_tokens) flush();
    batch.push_back(sequence);
    batched += size;
  }
  flush();

  for (auto& [layer, sum] : sums) {
    sum = (mirrored(sum.cpu()) / static_cast<double>(tokens)).to(at::kFloat);
  }
  return sums;
}

const at::Tensor& Statistics::covariance(int64_t layer) const {
  const auto found = covariance_.find(layer);
  if (found == covariance_.end()) {
    std::vector<int64_t> have;
    for (const auto& entry : covariance_) have.push_back(entry.first);
    fail("no covariance of layer {}; there are those of layers [{}]", layer, fmt::join(have, ", "));
  }
  return found->second;
}

void Statistics::check_model(const std::string& content_hash) const {
  if (!model_hash_.empty() && model_hash_ != content_hash) {
    fail("the covariance was measured on a model with hash {}, this one has {}; measure it again",
         model_hash_, content_hash);
  }
}

const at::Tensor& Statistics::factor(int64_t layer, double ridge, const at::Tensor& keys) {
  if (const int64_t width = covariance(layer).size(0); width != keys.size(0)) {
    fail(
        "the covariance of layer {} is of keys of width {}, this model's have {}: it is of another "
        "model; measure it again",
        layer, width, keys.size(0));
  }
  auto& lower = factors_[{layer, ridge}];
  if (lower.defined()) return lower;
  auto matrix = covariance(layer).to(at::kDouble);  // a copy: it is fp32
  matrix.diagonal().add_(ridge * matrix.diagonal().mean());
  const auto [found, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<int>() != 0) {
    fail(
        "the covariance of layer {} is not positive definite: it needs more tokens (about {}, ten "
        "times the width of the MLP) or a larger `ridge` (it is {})",
        layer, 10 * matrix.size(0), ridge);
  }
  return lower = found;
}

at::Tensor Statistics::solve(int64_t layer, double ridge, const at::Tensor& keys) {
  return at::cholesky_solve(keys.to(at::kCPU, at::kDouble), factor(layer, ridge, keys));
}

at::Tensor Statistics::directions(int64_t layer, double ridge, double lambda,
                                  const at::Tensor& keys, Solve how) {
  const auto& lower = factor(layer, ridge, keys);
  const auto whitened =
      at::linalg_solve_triangular(lower, keys.to(at::kCPU, at::kDouble), /*upper=*/false);
  return at::linalg_solve_triangular(lower.t(), ridge_inverse(whitened, lambda, how),
                                     /*upper=*/true);
}

at::Tensor Statistics::null_space(int64_t layer, double threshold) {
  auto& [values, vectors] = eigen_[layer];
  if (!values.defined())
    std::tie(values, vectors) = at::linalg_eigh(covariance(layer).to(at::kDouble));
  const auto count = values.lt(threshold).sum().item<int64_t>();
  if (count == 0) {
    fail(
        "the covariance of layer {} has no eigenvalue below the threshold {}: its null space is "
        "empty, the smallest is {:.3g} and the largest {:.3g}; raise `threshold`",
        layer, threshold, values[0].item<double>(), values[-1].item<double>());
  }
  return vectors.narrow(1, 0, count);
}

Statistics stored_statistics(const std::filesystem::path& store, const Model& model,
                             std::span<const std::vector<int64_t>> corpus,
                             const std::vector<int64_t>& layers, std::vector<int64_t>* computed) {
  const auto model_hash = model.content_hash();
  const auto text_hash = corpus_hash(corpus);
  const auto tokens = count_tokens(corpus);
  const auto key_of = [&](int64_t layer) {
    return std::map<std::string, std::string>{{"format", "resurface-covariance"},
                                              {"model", model_hash},
                                              {"corpus", text_hash},
                                              {"layer", std::to_string(layer)},
                                              {"tokens", std::to_string(tokens)}};
  };
  const auto file_of = [&](int64_t layer) {
    return store /
           fmt::format("covariance-{}-{}-{}-{}.safetensors", model_hash, text_hash, layer, tokens);
  };

  std::map<int64_t, at::Tensor> have;
  std::vector<int64_t> missing;
  for (const int64_t layer : layers) {
    if (!std::filesystem::exists(file_of(layer))) {
      missing.push_back(layer);
      continue;
    }
    const SafetensorsFile file(file_of(layer));
    if (file.metadata() != key_of(layer)) {
      fail("{}: its metadata do not say what its name says; remove it", file.path().string());
    }
    have[layer] = file.tensor("covariance").clone();
  }
  for (auto& [layer, matrix] : measure_covariance(model, corpus, missing)) {
    std::filesystem::create_directories(store);
    write_safetensors(file_of(layer), {{"covariance", matrix}}, key_of(layer));
    have[layer] = matrix;
  }
  if (computed) *computed = missing;
  return Statistics(std::move(have), model_hash);
}

}  // namespace resurface
