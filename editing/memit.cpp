// MEMIT (Meng et al. 2023, Mass-Editing Memory in a Transformer), eq. 14 and algorithm 1: for each
// layer l upwards
//
//   Δ_l = R_l [(λC + KKᵀ)⁻¹ K]ᵀ,   R_l = (z* - z) / (layers left),
//
// z the residual stream after the last edited block where the subject of the bare prompt ends, K
// the keys, both as the layers below l have been written. The reference solves d_ff x d_ff systems
// by LU and weighs the bare prompt's key as much as all generated contexts together; here all
// prompts of a request count the same.
#include "editing/editors.h"
#include "editing/spread.h"

namespace resurface {

const MethodPage memit_page = {
    .file = "editing/memit.cpp",
    .formula = R"(\Delta_l = R_l \, \big[ (\lambda C + K K^\top)^{-1} K \big]^\top,
    \quad R_l = \frac{z^* - z}{n_l})",
    .symbols = R"(l: each edited block, upwards
z: the residual stream after the last edited block where each subject ends, as the
    blocks below $l$ have been written
z^*: $z$ of the unedited model plus a $\delta$ of it, found as ROME's is
n_l: edited blocks left, $l$ included
\lambda: `lambda`)",
    .cost =
        "The systems solved are as small as the number of requests where that is less than d_ff, "
        "with one cached Cholesky factor of C a block; keys and residuals need one sweep over the "
        "blocks up to the last edited one.",
    .needs = needs_requests_and_covariance,
    .traps =
        "Keys and residual must be measured again after each block is written. The reference "
        "weighs the bare prompt's key as much as all generated contexts together; here all prompts "
        "of a request count the same. lambda belongs to a model's width: k'C⁻¹k is d_ff on "
        "average, so that a narrow model wants less.",
};

EditFile memit_batch(const MemitSettings& settings, const Model& model,
                     std::span<const EditExample> edits, Statistics& statistics) {
  const Spread how{.sites = edited_sites(model, edited_layers(settings.layers, model), edits)};
  statistics.prepare(how.sites);
  return spread(model, edits, how, settings.value,
                [&](const EditSite& site, const at::Tensor& keys) {
                  return statistics.directions(site, settings.ridge, settings.lambda, keys);
                });
}

EditFile memit(const MemitSettings& settings, const Model& model,
               std::span<const EditExample> edits, Statistics& statistics) {
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    return memit_batch(settings, current, batch, statistics);
  });
}

}  // namespace resurface
