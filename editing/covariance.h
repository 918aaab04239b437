// C = E[k kᵀ], uncentred, k the key of a site: the input of an MLP's down projection (Meng et al.
// 2022, ROME, §3.1; the reference runs the whole model again for every layer), or the weighted
// activations of some routed experts.
//
// One sweep serves all asked sites and stops at the key of the last of them. Products of a batch
// are fp32 (only the lower block triangle is computed), batches are summed in fp64: the relative
// error of an entry is bounded by the rows of one batch times 2^-24, not by the length of the
// corpus.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/model/model.h"
#include "editing/site.h"
#include "editing/solves.h"

namespace resurface {

/// C of each site, fp32.
using Covariances = std::map<EditSite, at::Tensor>;

/// [width, width] fp32 on the CPU for each site. About 10 · width tokens are enough, of routed
/// experts as many more as tokens choose others. Throws Error for an empty corpus, a layer that the
/// model does not have, or one that is asked for at two sets of experts.
Covariances measure_covariance(const Model& model, std::span<const std::vector<int64_t>> corpus,
                               const std::vector<EditSite>& sites, int64_t batch_tokens = 2048);

/// What an editor may ask about the model's keys, by site. Factors are made on first use and kept.
/// Below, C means C + ridge · mean(diag C) · I; keys are columns, [width, n]; all is fp64 on the
/// host.
class Statistics {
 public:
  using Measure = std::function<Covariances(const std::vector<EditSite>& sites)>;

  Statistics() = default;
  /// `measure` gives what is not there when an editor prepares it.
  explicit Statistics(Covariances covariance, std::string model_hash = {}, Measure measure = {})
      : covariance_(std::move(covariance)),
        model_hash_(std::move(model_hash)),
        measure_(std::move(measure)) {}

  /// Throws Error when they are known to be of a model with another content hash.
  void check_model(const std::string& content_hash) const;
  /// Measures those of the sites that are not there, together. Other sites of routed experts, which
  /// were some earlier requests', are forgotten.
  void prepare(const std::vector<EditSite>& sites);
  /// Throws Error naming the sites there are.
  const at::Tensor& covariance(const EditSite& site) const;
  /// C⁻¹ K. Throws Error when C is not positive definite (too few tokens) or of another width.
  at::Tensor solve(const EditSite& site, double ridge, const at::Tensor& keys);
  /// (λC + KKᵀ)⁻¹ K, what MEMIT, PMET, RECT and EMMET write along. With C = LLᵀ and S = L⁻¹K it is
  /// L⁻ᵀ (λI + SSᵀ)⁻¹ S, and its cost in a new batch of edits is that of their number.
  at::Tensor directions(const EditSite& site, double ridge, double lambda, const at::Tensor& keys,
                        Solve how = Solve::automatic);
  /// Orthonormal columns [width, m] that span the eigenvectors of C (without ridge) whose
  /// eigenvalue is below `threshold`. Throws Error when there are none.
  at::Tensor null_space(const EditSite& site, double threshold);

 private:
  const at::Tensor& factor(const EditSite& site, double ridge, const at::Tensor& keys);

  Covariances covariance_;
  std::string model_hash_;
  Measure measure_;
  std::map<std::pair<EditSite, double>, at::Tensor> factors_;
  std::map<EditSite, std::pair<at::Tensor, at::Tensor>> eigen_;  ///< values ascending, vectors
};

/// measure_covariance behind a folder: one safetensors file a site, keyed by the hashes of model
/// and corpus, layer, experts and number of tokens. A stored site is not computed again. `sites`
/// are there at once, `computed` (if given) receives the layers of those that were not stored;
/// others follow as editors prepare them, for which the model must live, as it is, as long.
Statistics stored_statistics(const std::filesystem::path& store, const Model& model,
                             std::span<const std::vector<int64_t>> corpus,
                             const std::vector<EditSite>& sites = {},
                             std::vector<int64_t>* computed = nullptr);

}  // namespace resurface
