// ROME (Meng et al. 2022, "Locating and Editing Factual Associations in GPT") with R-ROME's key
// (Gupta et al. 2024, "Rebuilding ROME"): one rank-one change of one MLP down projection (of a
// site: editing/site.h) per request.
#pragma once

#include <span>

#include "core/run/method_page.h"
#include "core/run/settings.h"
#include "editing/covariance.h"
#include "editing/editor.h"
#include "editing/keys_values.h"

namespace resurface {

struct RomeSettings {
  int64_t layer = -1;
  bool original_key = false;
  double ridge = 1e-5;
  bool sequential_values = false;
  ValueSettings value;
  ContextSettings contexts;

  template <class V>
  void visit(V& v) {
    v("layer", layer, "edited block; -1: 0.16 of the depth (5 of 32, as for the 7B models)",
      Range::at_least(-1));
    v("original_key", original_key,
      "ROME's mix of the averaged key (in u) and the bare prompt's (in Wk and k'u); it can divide "
      "by "
      "almost zero and ruin the model. false: R-ROME's averaged key everywhere");
    v("ridge", ridge,
      "times the mean of C's diagonal, added to it; 0 as published (needs about 10 d_ff tokens)",
      Range::at_least(0));
    v("sequential_values", sequential_values,
      "optimise each request's value on the model as the requests before left it, one by one");
    v("value", value, "the optimisation of the value");
    v("contexts", contexts, "random texts before the prompt");
  }
};

/// The layer that `layer = -1` means.
int64_t rome_layer(const RomeSettings& settings, const Model& model);

/// All requests, in order: each is written on W as the requests before left it, so the deltas add
/// up to one of rank r = number of requests. Values are optimised together on the unedited model
/// unless `sequential_values`. `method`, `base_hash`, `settings` and `requests` of the file are
/// left to the caller.
EditFile rome(const RomeSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics);
extern const MethodPage rome_page;

}  // namespace resurface
