// The guard: measures an edit before anyone relies on it and refuses one that disables the model.
// One rank-one edit can do that ("disabling edits", Gupta et al. 2024, Rebuilding ROME).
#pragma once

#include <span>

#include "core/data/batch.h"
#include "core/model/model.h"
#include "core/run/settings.h"
#include "editing/editor.h"

namespace resurface {

struct GuardSettings {
  double min_key_alignment = 0.05;
  double max_relative_norm = 1;
  double max_perplexity_ratio = 2;
  bool force = false;

  template <class V>
  void visit(V& v) {
    v("min_key_alignment", min_key_alignment,
      "smallest k'u of a request, as the cosine of its two keys under the inverse covariance",
      Range::between(0, 1));
    v("max_relative_norm", max_relative_norm,
      "largest |dW| / |W|, of each request and of all together", Range::above(0));
    v("max_perplexity_ratio", max_perplexity_ratio,
      "largest perplexity after / before on neutral examples", Range::above(0));
    v("force", force, "keep an edit that the guard would refuse");
  }
};

/// Measures `edit`, with the perplexity of `neutral` (may be empty) before and after; the model is
/// left bit for bit as it was. Throws Error listing every threshold that is passed, unless `force`.
GuardReport guard_edit(Model& model, const EditFile& edit, std::span<const Example> neutral,
                       const GuardSettings& settings);

/// exp(mean NLL of an answer token).
double perplexity(const Model& model, std::span<const Example> examples);

}  // namespace resurface
