// PMET (Li et al. 2024, PMET: Precise Model Editing in a Transformer): as MEMIT, but
// a δ of the attention's output is optimised beside one of the MLP's, only the MLP's is written,
// and the residual is that of the MLP's output, over the root of the layers left:
//
//   Δ_l = R_l [(λC + KKᵀ)⁻¹ K]ᵀ,   R_l = (m* - m) / √(layers left).
//
// The reference also weakens the likelihood's weight once the target is the likeliest answer.
#include "editing/editors.h"
#include "editing/spread.h"

namespace resurface {

const MethodPage pmet_page = {
    .file = "editing/pmet.cpp",
    .formula = R"(\Delta_l = R_l \, \big[ (\lambda C + K K^\top)^{-1} K \big]^\top,
    \quad R_l = \frac{m^* - m}{\sqrt{n_l}})",
    .symbols = R"(l: each edited block, upwards
m: the output of the last edited block's MLP where each subject ends, as the
    blocks below $l$ have been written
m^*: $m$ of the unedited model plus its half of a $\delta$ found as ROME's is; the other half is
    of the attention's output, optimised beside it and not written
n_l: edited blocks left, $l$ included
\lambda: `lambda`)",
    .cost =
        "The systems solved are as small as the number of requests where that is less than d_ff, "
        "with one cached Cholesky factor of C a block; keys and residuals need one sweep over the "
        "blocks up to the last edited one.",
    .needs = needs_requests_and_covariance,
    .traps =
        "The reference also weakens the likelihood's weight once the target is the likeliest "
        "answer; here it does not change.",
};

EditFile pmet(const PmetSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics) {
  const auto layers = edited_layers(settings.layers, model);
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    const Spread how{.sites = edited_sites(current, layers, batch),
                     .value = ValueSite::attention_and_mlp,
                     .square_root = true};
    statistics.prepare(how.sites);
    return spread(current, batch, how, settings.value,
                  [&](const EditSite& site, const at::Tensor& keys) {
                    return statistics.directions(site, settings.ridge, settings.lambda, keys);
                  });
  });
}

}  // namespace resurface
