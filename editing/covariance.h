// C = E[k kᵀ], uncentred, k the input of an MLP's down projection (Meng et al. 2022, ROME, §3.1;
// the reference runs the whole model again for every layer).
//
// One sweep serves all asked layers and stops at the key of the last of them. Products of a batch
// are fp32 (only the lower block triangle is computed), batches are summed in fp64: the relative
// error of an entry is bounded by the rows of one batch times 2^-24, not by the length of the
// corpus.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/model/model.h"
#include "editing/solves.h"

namespace resurface {

/// [d_ff, d_ff] fp32 on the CPU for each layer. About 10·d_ff tokens are enough.
/// Throws Error for an empty corpus or a layer that the model does not have.
std::map<int64_t, at::Tensor> measure_covariance(const Model& model,
                                                 std::span<const std::vector<int64_t>> corpus,
                                                 const std::vector<int64_t>& layers,
                                                 int64_t batch_tokens = 2048);

/// What an editor may ask about the model's keys, by layer. Factors are made on first use and kept.
/// Below, C means C + ridge · mean(diag C) · I; keys are columns, [d_ff, n]; all is fp64 on the
/// host.
class Statistics {
 public:
  Statistics() = default;
  explicit Statistics(std::map<int64_t, at::Tensor> covariance, std::string model_hash = {})
      : covariance_(std::move(covariance)), model_hash_(std::move(model_hash)) {}

  /// Throws Error when they are known to be of a model with another content hash.
  void check_model(const std::string& content_hash) const;
  /// Throws Error naming the layers there are.
  const at::Tensor& covariance(int64_t layer) const;
  /// C⁻¹ K. Throws Error when C is not positive definite (too few tokens) or of another width.
  at::Tensor solve(int64_t layer, double ridge, const at::Tensor& keys);
  /// (λC + KKᵀ)⁻¹ K, what MEMIT, PMET, RECT and EMMET write along. With C = LLᵀ and S = L⁻¹K it is
  /// L⁻ᵀ (λI + SSᵀ)⁻¹ S, and its cost in a new batch of edits is that of their number.
  at::Tensor directions(int64_t layer, double ridge, double lambda, const at::Tensor& keys,
                        Solve how = Solve::automatic);
  /// Orthonormal columns [d_ff, m] that span the eigenvectors of C (without ridge) whose eigenvalue
  /// is below `threshold`. Throws Error when there are none.
  at::Tensor null_space(int64_t layer, double threshold);

 private:
  const at::Tensor& factor(int64_t layer, double ridge, const at::Tensor& keys);

  std::map<int64_t, at::Tensor> covariance_;
  std::string model_hash_;
  std::map<std::pair<int64_t, double>, at::Tensor> factors_;
  std::map<int64_t, std::pair<at::Tensor, at::Tensor>> eigen_;  ///< values ascending, vectors
};

/// measure_covariance behind a folder: one safetensors file a layer, keyed by the hashes of model
/// and corpus, layer and number of tokens. A stored layer is not computed again; `computed` (if
/// given) receives the layers that were.
Statistics stored_statistics(const std::filesystem::path& store, const Model& model,
                             std::span<const std::vector<int64_t>> corpus,
                             const std::vector<int64_t>& layers,
                             std::vector<int64_t>* computed = nullptr);

}  // namespace resurface
