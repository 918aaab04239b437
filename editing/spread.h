// What MEMIT, PMET, AlphaEdit and RECT share (MEMIT, Meng et al. 2023, algorithm 1): values are
// optimised at the last edited layer; then, layer by layer upwards, keys and the residual that is
// left are measured and a share of the residual is written.
//
// The references run the whole model twice a layer. Here prompts end with their subject, since what
// stands behind reaches neither keys nor values; their residual stream is kept, so that each block
// up to the last edited one runs once, and only the bare prompts go on to that one. W is not
// written on the way: with Δ = R Xᵀ the stream after the block changes by Δk. As it changes,
// subjects may come to choose routed experts that no site above has: these give what they give, and
// what is left to be written shows it.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "editing/keys_values.h"

namespace resurface {

struct Spread {
  std::vector<EditSite> sites;  ///< layers ascending, not empty
  ValueSite value = ValueSite::hidden;
  bool square_root = false;  ///< divide the residual by the root of the layers left
};

/// X [key width, n] fp64 of the update Δ = R Xᵀ, from the averaged keys K [key width, n] fp64 of a
/// site.
using Directions = std::function<at::Tensor(const EditSite& site, const at::Tensor& keys)>;

/// The deltas and measures of all edits together.
EditFile spread(const Model& model, std::span<const EditExample> edits, const Spread& how,
                const ValueSettings& settings, const Directions& directions);

/// A file with the measures of the optimised values.
EditFile measured(std::span<const EditExample> edits, int64_t layer, const KeysValues& values);
/// Adds Δ = R Xᵀ of a site to the file, and its norms to the measures of its requests; R [n, d],
/// K and X [key width, n], fp64. Throws Error naming a request whose update is not finite.
void add_update(EditFile& file, const Model& model, const EditSite& site,
                const at::Tensor& residual, const at::Tensor& keys, const at::Tensor& along);

}  // namespace resurface
