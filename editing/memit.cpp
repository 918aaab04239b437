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

EditFile memit_batch(const MemitSettings& settings, const Model& model,
                     std::span<const EditExample> edits, Statistics& statistics) {
  return spread(model, edits, {.layers = edited_layers(settings.layers, model)}, settings.value,
                [&](int64_t layer, const at::Tensor& keys) {
                  return statistics.directions(layer, settings.ridge, settings.lambda, keys);
                });
}

EditFile memit(const MemitSettings& settings, const Model& model,
               std::span<const EditExample> edits, Statistics& statistics) {
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    return memit_batch(settings, current, batch, statistics);
  });
}

}  // namespace resurface
