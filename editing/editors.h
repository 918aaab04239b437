// The editors beside ROME (editing/rome.h): settings and declarations, a file each. All are
// functions of requests as ids; `method`, `base_hash`, `settings` and `requests` of the file are
// left to the caller. K holds the requests' averaged keys as columns, R their residuals, C = E[k
// kᵀ].
#pragma once

#include <span>
#include <vector>

#include "core/run/method_page.h"
#include "core/run/settings.h"
#include "editing/batches.h"
#include "editing/covariance.h"
#include "editing/keys_values.h"

namespace resurface {

constexpr auto layers_help = "edited blocks; empty: those from 1/8 to 1/4 of the depth";
constexpr auto ridge_help = "times the mean of C's diagonal, added to it";

struct MemitSettings {
  std::vector<int64_t> layers;
  double lambda = 15000;
  double ridge = 1e-5;
  OrderSettings order;
  ValueSettings value = {.clamp = 0.75};
  ContextSettings contexts = {.lengths = {10}};

  template <class V>
  void visit(V& v) {
    v("layers", layers, layers_help, Range::at_least(0));
    v("lambda", lambda,
      "weight of C against the requests' keys; k'C^-1 k is d_ff on average, so that a narrow model "
      "wants less",
      Range::above(0));
    v("ridge", ridge, ridge_help, Range::at_least(0));
    order.visit(v);
    v("value", value, "the optimisation of the value");
    v("contexts", contexts, "random texts before the prompt");
  }
};

struct PmetSettings : MemitSettings {
  PmetSettings() {
    lambda = 6000;
    value.steps = 30;
    value.learning_rate = 0.2;
    value.kl_factor = 1;
  }
};

struct RectSettings : MemitSettings {
  double keep = 0.4;

  template <class V>
  void visit(V& v) {
    v("keep", keep, "share of each matrix' entries that keep their change", Range::between(0, 1));
    MemitSettings::visit(v);
  }
};

struct EmmetSettings {
  int64_t layer = -1;
  double mu = 0.1;
  double ridge = 1e-5;
  OrderSettings order;
  ValueSettings value;
  ContextSettings contexts = {.lengths = {10}};

  template <class V>
  void visit(V& v) {
    v("layer", layer, "edited block; -1: 0.16 of the depth", Range::at_least(-1));
    v("mu", mu, "regularises K'C^-1 K; 0: every value is met exactly", Range::at_least(0));
    v("ridge", ridge, ridge_help, Range::at_least(0));
    order.visit(v);
    v("value", value, "the optimisation of the value");
    v("contexts", contexts, "random texts before the prompt");
  }
};

struct AlphaEditSettings {
  std::vector<int64_t> layers;
  double threshold = 0.02;
  double l2 = 10;
  OrderSettings order;
  ValueSettings value = {.clamp = 0.75};
  ContextSettings contexts = {.lengths = {10}};

  template <class V>
  void visit(V& v) {
    v("layers", layers, layers_help, Range::at_least(0));
    v("threshold", threshold, "directions of C below this eigenvalue may change", Range::above(0));
    v("l2", l2, "weight of |D|^2 against the requests' keys", Range::above(0));
    order.visit(v);
    v("value", value, "the optimisation of the value");
    v("contexts", contexts, "random texts before the prompt");
  }
};

struct FtSettings {
  int64_t layer = -1;
  int64_t steps = 25;
  double learning_rate = 5e-4;
  double clamp = 5e-4;
  double early_stop = 0.01;
  int64_t batch_tokens = 2048;
  OrderSettings order;

  template <class V>
  void visit(V& v) {
    v("layer", layer, "edited block; -1: 0.66 of the depth (21 of 32)", Range::at_least(-1));
    v("steps", steps, "Adam steps", Range::at_least(1));
    v("learning_rate", learning_rate, "Adam's", Range::above(0));
    v("clamp", clamp, "largest change of any weight; 0: no bound", Range::at_least(0));
    v("early_stop", early_stop, "stops when the loss is below this", Range::at_least(0));
    v("batch_tokens", batch_tokens, "tokens run together", Range::at_least(1));
    order.visit(v);
  }
};

EditFile memit(const MemitSettings& settings, const Model& model,
               std::span<const EditExample> edits, Statistics& statistics);
EditFile pmet(const PmetSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics);
EditFile rect(const RectSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics);
EditFile emmet(const EmmetSettings& settings, const Model& model,
               std::span<const EditExample> edits, Statistics& statistics);
EditFile alphaedit(const AlphaEditSettings& settings, const Model& model,
                   std::span<const EditExample> edits, Statistics& statistics);
EditFile ft_l(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics);
EditFile ft_m(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics);

extern const MethodPage memit_page, pmet_page, rect_page, emmet_page, alphaedit_page, ft_l_page,
    ft_m_page;

/// One batch of MEMIT's, for those who change it afterwards.
EditFile memit_batch(const MemitSettings& settings, const Model& model,
                     std::span<const EditExample> edits, Statistics& statistics);

}  // namespace resurface
