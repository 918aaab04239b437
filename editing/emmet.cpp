// EMMET (Gupta et al. 2024, A Unified Framework for Model Editing): ROME's equality
// constraint W'K = V for a batch of requests at one layer,
//
//   Δ = R (KᵀC⁻¹K + μI)⁻¹ KᵀC⁻¹,   R = V - WK,
//
// V ROME's values. The reference leaves μ out of a batch of one; here it counts always. C⁻¹K
// (KᵀC⁻¹K
// + μI)⁻¹ = (μC + KKᵀ)⁻¹K, which is MEMIT's solve.
#include "editing/editors.h"
#include "editing/spread.h"

namespace resurface {

const MethodPage emmet_page = {
    .file = "editing/emmet.cpp",
    .formula = R"(\Delta = R \, (K^\top C^{-1} K + \mu I)^{-1} K^\top C^{-1}, \quad R = V - W K)",
    .symbols = R"(V: the values $v^*$ of ROME as columns
\mu: `mu`; 0 meets every value exactly)",
    .cost =
        "As ROME, with one solve for the batch: C⁻¹K (K'C⁻¹K + μI)⁻¹ = (μC + KK')⁻¹K, which is "
        "MEMIT's.",
    .needs = needs_requests_and_covariance,
    .traps =
        "Two requests with the same key and different values have no exact solution; with mu 0 the "
        "solve is refused. The reference leaves mu out of a batch of one; here it counts always.",
};

EditFile emmet(const EmmetSettings& settings, const Model& model,
               std::span<const EditExample> edits, Statistics& statistics) {
  const int64_t layer = edited_layer(settings.layer, 0.16, model);
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    const EditSite site = edited_site(current, layer, batch);
    statistics.prepare({site});
    const auto kv = keys_and_values(current, site, batch, settings.value);
    const auto host = [](const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); };
    const auto residual =  // [n, d]
        host(kv.initial) + host(kv.delta) - host(mlp_output(current, site, kv.key));
    const auto keys = host(kv.key).t();
    EditFile file = measured(batch, layer, kv);
    add_update(file, current, site, residual, keys,
               statistics.directions(site, settings.ridge, settings.mu, keys));
    return file;
  });
}

}  // namespace resurface
