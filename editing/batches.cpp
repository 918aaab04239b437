#include "editing/batches.h"

#include "core/run/error.h"

namespace resurface {

EditFile in_batches(const OrderSettings& order, const Model& model,
                    std::span<const EditExample> edits, const EditBatch& edit) {
  if (edits.empty()) fail("editing: there are no requests");
  const size_t size = order.batch == 0 ? edits.size() : static_cast<size_t>(order.batch);
  if (size >= edits.size()) return edit(model, edits);
  std::optional<Model> written;
  if (order.sequential) written = model.clone();
  EditFile all;
  for (size_t begin = 0; begin < edits.size(); begin += size) {
    const auto part = edit(written ? *written : model,
                           edits.subspan(begin, std::min(size, edits.size() - begin)));
    if (written) apply_edit(*written, part, true);
    add_deltas(all.deltas, part.deltas);
    all.measures.insert(all.measures.end(), part.measures.begin(), part.measures.end());
  }
  return all;
}

int64_t edited_layer(int64_t layer, double share, const Model& model) {
  if (layer < 0) layer = std::llround(share * static_cast<double>(model.layers()));
  if (layer >= model.layers()) {
    fail("editing: layer {} asked, the model has layers 0 .. {}", layer, model.layers() - 1);
  }
  return layer;
}

std::vector<int64_t> edited_layers(std::vector<int64_t> layers, const Model& model) {
  if (layers.empty()) {
    const int64_t last = edited_layer(-1, 0.25, model);
    for (int64_t l = edited_layer(-1, 0.125, model); l <= last; ++l) layers.push_back(l);
  }
  std::sort(layers.begin(), layers.end());
  if (const auto twice = std::adjacent_find(layers.begin(), layers.end()); twice != layers.end()) {
    fail("editing: layer {} is named twice", *twice);
  }
  for (const int64_t layer : layers) edited_layer(layer, 0, model);
  return layers;
}

}  // namespace resurface
