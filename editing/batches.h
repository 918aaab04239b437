// What an editor is asked in: which layers it edits, and which requests together.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/model/model.h"
#include "core/run/settings.h"
#include "editing/editor.h"
#include "editing/requests.h"
#include "editing/site.h"

namespace resurface {

struct OrderSettings {
  int64_t batch = 0;
  bool sequential = true;

  template <class V>
  void visit(V& v) {
    v("batch", batch, "requests edited together; 0: all", Range::at_least(0));
    v("sequential", sequential,
      "each batch starts from the state that the batches before it left (weights, and protected "
      "keys where a method has them); false: each from the unedited model, the changes added up");
  }
};

/// The edits of each batch, made by `edit`, in one file. Nothing that `edit` sees changes between
/// batches unless `sequential`, for which alone a second copy of the model is made.
using EditBatch = std::function<EditFile(const Model&, std::span<const EditExample>)>;
EditFile in_batches(const OrderSettings& order, const Model& model,
                    std::span<const EditExample> edits, const EditBatch& edit);

/// `layer`, or the one at `share` of the depth for -1. Throws Error when the model has no such
/// layer.
int64_t edited_layer(int64_t layer, double share, const Model& model);
/// `layers` in ascending order; empty: those from 1/8 to 1/4 of the depth (4 .. 8 of 32, as for the
/// 7B models). Throws Error for a layer that the model does not have or that is named twice.
std::vector<int64_t> edited_layers(std::vector<int64_t> layers, const Model& model);

}  // namespace resurface
