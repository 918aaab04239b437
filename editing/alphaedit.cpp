// AlphaEdit (Fang et al. 2025, AlphaEdit: Null-Space Constrained Knowledge Editing) in
// MEMIT's loop over layers:
//
//   Δᵀ = [P(KKᵀ + K_pK_pᵀ) + L2·I]⁻¹ P K Rᵀ,
//
// P the projector on the eigenvectors of C below a threshold, K_p the keys of earlier edits. With
// S = P[K K_p], Δᵀ = (SSᵀ + L2·I)⁻¹ P K Rᵀ, since P projects: the solve of the others with C = I.
#include "editing/editors.h"
#include "editing/spread.h"

namespace resurface {

const MethodPage alphaedit_page = {
    .file = "editing/alphaedit.cpp",
    .formula =
        R"(\Delta_l^\top = \big[ P (K K^\top + K_p K_p^\top) + \lambda I \big]^{-1} P K R_l^\top)",
    .symbols = R"(l, R_l: as in MEMIT
P: the projector on the eigenvectors of $C = E[k k^\top]$, over general text, whose eigenvalue is
    below `threshold`
K_p: the keys of earlier batches, where they are `sequential`
\lambda: `l2`)",
    .cost =
        "The eigenvectors of C are found once a block. As P projects, the solve is (SS' + λI)⁻¹ "
        "PKR' with S = P[K K_p], as small as the number of requests so far.",
    .needs = needs_requests_and_covariance,
    .traps =
        "The threshold is of the averaged C and belongs to a model: if it leaves no direction "
        "nothing can be written, if it leaves all nothing is protected.",
};

EditFile alphaedit(const AlphaEditSettings& settings, const Model& model,
                   std::span<const EditExample> edits, Statistics& statistics) {
  const auto layers = edited_layers(settings.layers, model);
  // Of each layer those of earlier batches, [key width, n], with where these were edited.
  std::map<int64_t, std::vector<std::pair<EditSite, at::Tensor>>> protected_keys;
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    const Spread how{.sites = edited_sites(current, layers, batch)};
    statistics.prepare(how.sites);
    const auto directions = [&](const EditSite& site, const at::Tensor& keys) {
      auto& earlier = protected_keys[site.layer];
      std::vector<at::Tensor> all = {keys};
      for (const auto& [where, known] : earlier) all.push_back(keys_at(site, where, known));
      if (settings.order.sequential) earlier.emplace_back(site, keys);
      const auto basis = statistics.null_space(site, settings.threshold);
      const auto projected = basis.mm(basis.t().mm(at::cat(all, 1)));
      return ridge_inverse(projected, settings.l2).narrow(1, 0, keys.size(1));
    };
    return spread(current, batch, how, settings.value, directions);
  });
}

}  // namespace resurface
