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

EditFile pmet(const PmetSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics) {
  const Spread how{.layers = edited_layers(settings.layers, model),
                   .site = ValueSite::attention_and_mlp,
                   .square_root = true};
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    return spread(current, batch, how, settings.value, [&](int64_t layer, const at::Tensor& keys) {
      return statistics.directions(layer, settings.ridge, settings.lambda, keys);
    });
  });
}

}  // namespace resurface
