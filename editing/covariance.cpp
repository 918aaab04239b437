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

Covariances measure_covariance(const Model& model, std::span<const std::vector<int64_t>> corpus,
                               const std::vector<EditSite>& sites, int64_t batch_tokens) {
  if (sites.empty()) return {};
  const int64_t tokens = count_tokens(corpus);
  if (tokens == 0) fail("covariance: the corpus has no tokens; give text to measure it on");
  Covariances sums;
  std::map<int64_t, at::Tensor> sum_of;  // by layer
  HiddenOptions options;
  for (const EditSite& site : sites) {
    if (sums.contains(site)) continue;
    const int64_t width = key_width(model.config(), site);
    sums[site] = at::zeros({width, width}, at::dtype(at::kDouble).device(model.device()));
    if (!sum_of.emplace(site.layer, sums[site]).second) {
      fail("covariance: layer {} is asked for at two sets of experts", site.layer);
    }
    options.key_experts[site.layer] = site.experts;
  }

  const at::NoGradGuard no_grad;
  options.last = sum_of.rbegin()->first + 1;
  options.stop_at_key = true;
  options.on_key = [&](int64_t layer, const at::Tensor& key) {
    if (const auto found = sum_of.find(layer); found != sum_of.end()) {
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

  for (auto& [site, sum] : sums) {
    sum = (mirrored(sum.cpu()) / static_cast<double>(tokens)).to(at::kFloat);
  }
  return sums;
}

const at::Tensor& Statistics::covariance(const EditSite& site) const {
  const auto found = covariance_.find(site);
  if (found == covariance_.end()) {
    std::vector<std::string> have;
    for (const auto& entry : covariance_) have.push_back(to_string(entry.first));
    fail("no covariance of layer {}; there are those of layers [{}]", to_string(site),
         fmt::join(have, ", "));
  }
  return found->second;
}

void Statistics::prepare(const std::vector<EditSite>& sites) {
  if (!measure_) return;
  const auto passed = [&](const EditSite& site) {
    return !site.experts.empty() && std::find(sites.begin(), sites.end(), site) == sites.end();
  };
  std::erase_if(covariance_, [&](const auto& entry) { return passed(entry.first); });
  std::erase_if(factors_, [&](const auto& entry) { return passed(entry.first.first); });
  std::erase_if(eigen_, [&](const auto& entry) { return passed(entry.first); });
  std::vector<EditSite> missing;
  for (const EditSite& site : sites) {
    if (!covariance_.contains(site)) missing.push_back(site);
  }
  if (!missing.empty()) covariance_.merge(measure_(missing));
}

void Statistics::check_model(const std::string& content_hash) const {
  if (!model_hash_.empty() && model_hash_ != content_hash) {
    fail("the covariance was measured on a model with hash {}, this one has {}; measure it again",
         model_hash_, content_hash);
  }
}

const at::Tensor& Statistics::factor(const EditSite& site, double ridge, const at::Tensor& keys) {
  if (const int64_t width = covariance(site).size(0); width != keys.size(0)) {
    fail(
        "the covariance of layer {} is of keys of width {}, this model's have {}: it is of another "
        "model; measure it again",
        to_string(site), width, keys.size(0));
  }
  auto& lower = factors_[{site, ridge}];
  if (lower.defined()) return lower;
  auto matrix = covariance(site).to(at::kDouble);  // a copy: it is fp32
  matrix.diagonal().add_(ridge * matrix.diagonal().mean());
  const auto [found, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<int>() != 0) {
    fail(
        "the covariance of layer {} is not positive definite: it needs more tokens (about {}, ten "
        "times the width of its keys) or a larger `ridge` (it is {})",
        to_string(site), 10 * matrix.size(0), ridge);
  }
  return lower = found;
}

at::Tensor Statistics::solve(const EditSite& site, double ridge, const at::Tensor& keys) {
  return at::cholesky_solve(keys.to(at::kCPU, at::kDouble), factor(site, ridge, keys));
}

at::Tensor Statistics::directions(const EditSite& site, double ridge, double lambda,
                                  const at::Tensor& keys, Solve how) {
  const auto& lower = factor(site, ridge, keys);
  const auto whitened =
      at::linalg_solve_triangular(lower, keys.to(at::kCPU, at::kDouble), /*upper=*/false);
  return at::linalg_solve_triangular(lower.t(), ridge_inverse(whitened, lambda, how),
                                     /*upper=*/true);
}

at::Tensor Statistics::null_space(const EditSite& site, double threshold) {
  auto& [values, vectors] = eigen_[site];
  if (!values.defined())
    std::tie(values, vectors) = at::linalg_eigh(covariance(site).to(at::kDouble));
  const auto count = values.lt(threshold).sum().item<int64_t>();
  if (count == 0) {
    fail(
        "the covariance of layer {} has no eigenvalue below the threshold {}: its null space is "
        "empty, the smallest is {:.3g} and the largest {:.3g}; raise `threshold`",
        to_string(site), threshold, values[0].item<double>(), values[-1].item<double>());
  }
  return vectors.narrow(1, 0, count);
}

namespace {

/// A folder of covariances of one model and corpus.
class CovarianceStore {
 public:
  CovarianceStore(std::filesystem::path folder, const Model& model, std::string model_hash,
                  std::span<const std::vector<int64_t>> corpus)
      : folder_(std::move(folder)),
        model_(model),
        model_hash_(std::move(model_hash)),
        corpus_(corpus.begin(), corpus.end()),
        corpus_hash_(corpus_hash(corpus)),
        tokens_(std::to_string(count_tokens(corpus))) {}

  Covariances get(const std::vector<EditSite>& sites, std::vector<int64_t>* computed) const {
    Covariances have;
    std::vector<EditSite> missing;
    for (const EditSite& site : sites) {
      const auto path = path_of(site);
      if (!std::filesystem::exists(path)) {
        missing.push_back(site);
        continue;
      }
      const SafetensorsFile file(path);
      if (file.metadata() != key_of(site)) {
        fail("{}: its metadata do not say what its name says; remove it", path.string());
      }
      have[site] = file.tensor("covariance").clone();
    }
    for (auto& [site, matrix] : measure_covariance(model_, corpus_, missing)) {
      std::filesystem::create_directories(folder_);
      write_safetensors(path_of(site), {{"covariance", matrix}}, key_of(site));
      have[site] = matrix;
    }
    if (computed) {
      computed->clear();
      for (const EditSite& site : missing) computed->push_back(site.layer);
    }
    return have;
  }

 private:
  std::map<std::string, std::string> key_of(const EditSite& site) const {
    std::map<std::string, std::string> key = {{"format", "resurface-covariance"},
                                              {"model", model_hash_},
                                              {"corpus", corpus_hash_},
                                              {"layer", std::to_string(site.layer)},
                                              {"tokens", tokens_}};
    if (!site.experts.empty()) key["experts"] = fmt::format("{}", fmt::join(site.experts, ","));
    return key;
  }
  std::filesystem::path path_of(const EditSite& site) const {
    // A list of experts may be too long for a name.
    std::string name =
        fmt::format("covariance-{}-{}-{}-{}", model_hash_, corpus_hash_, site.layer, tokens_);
    if (!site.experts.empty()) name += fmt::format("-{}", hash_text(key_of(site).at("experts")));
    return folder_ / (name + ".safetensors");
  }

  std::filesystem::path folder_;
  const Model& model_;
  std::string model_hash_;
  std::vector<std::vector<int64_t>> corpus_;
  std::string corpus_hash_, tokens_;
};

}  // namespace

Statistics stored_statistics(const std::filesystem::path& store, const Model& model,
                             std::span<const std::vector<int64_t>> corpus,
                             const std::vector<EditSite>& sites, std::vector<int64_t>* computed) {
  const auto model_hash = model.content_hash();
  const auto known = std::make_shared<CovarianceStore>(store, model, model_hash, corpus);
  return Statistics(known->get(sites, computed), model_hash,
                    [known](const auto& asked) { return known->get(asked, nullptr); });
}

}  // namespace resurface
