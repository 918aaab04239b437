// Where a layer is edited: the matrices that are written, and the key that they are written by.
//
// A dense MLP, and the shared expert of a mixture, give W k for the key k that they read. What
// routed experts give together is linear too, in their weighted activations side by side:
//
//   Σ_e g_e W_e a_e = [W_1 W_2 ...] [g_1 a_1; g_2 a_2; ...],   g_e = 0 for experts not chosen,
//
// so that a layer of routed experts alone is edited as one matrix, whose change is cut back into
// one of each expert. All of them would be too wide a key (its covariance is experts · width
// squared); a site has the experts that the requests' subjects choose. The parts of the others are
// zero in the subjects' keys, so that nothing of what is written would come from them, and least
// squares over the site's columns are exactly those of a change that is allowed there alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/model/model.h"
#include "editing/requests.h"

namespace resurface {

struct EditSite {
  // Implicit: a layer that has one projection for every token is a site by itself.
  EditSite(int64_t of_layer, std::vector<int64_t> of_experts = {})
      : layer(of_layer), experts(std::move(of_experts)) {}
  auto operator<=>(const EditSite&) const = default;

  int64_t layer;
  std::vector<int64_t> experts;  ///< ascending, of a layer of routed experts alone; else empty
};

/// What `layers` are edited at for these requests: in layers of routed experts alone the experts
/// that any prompt of a request chooses where its subject ends, found in one sweep over the model.
/// Throws Error when these make the key wider than kWidestKey.
std::vector<EditSite> edited_sites(const Model& model, const std::vector<int64_t>& layers,
                                   std::span<const EditExample> edits);
EditSite edited_site(const Model& model, int64_t layer, std::span<const EditExample> edits);
constexpr int64_t kWidestKey = 16384;

/// Columns of a site's keys. Throws Error when the model has no such layer, or the layer no such
/// experts.
int64_t key_width(const ModelConfig& config, const EditSite& site);
/// "model.layers.5.mlp.down_proj.weight", of a mixture with a shared expert
/// "model.layers.5.mlp.shared_experts.down_proj.weight", of routed experts one each.
std::vector<std::string> edited_parameters(const Model& model, const EditSite& site);
/// Their values side by side, [d, key width], as the model holds them.
at::Tensor edited_weight(const Model& model, const EditSite& site);
/// [n, key width] as the columns of each parameter, by its name.
std::vector<std::pair<std::string, at::Tensor>> cut(const Model& model, const EditSite& site,
                                                    const at::Tensor& columns);
/// Keys [key width, n] of one site as those of another of the same layer: without the parts of
/// experts that the other has not, and zero where it has others.
at::Tensor keys_at(const EditSite& other, const EditSite& site, const at::Tensor& keys);

/// "5", or "5 (experts 0, 3)".
std::string to_string(const EditSite& site);

}  // namespace resurface
