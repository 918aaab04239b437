#include "editing/fine_tune_part.h"

#include "core/tensor/ops.h"
#include "editing/keys_values.h"

namespace resurface {

FineTunePart fine_tune_part(const Model& model, const EditSite& site,
                            std::span<const EditExample> edits, int64_t first_edit, bool answered) {
  const int64_t layer = site.layer;
  std::vector<std::vector<int64_t>> sequences;
  std::vector<int64_t> rows, row, ids, owner;
  std::vector<double> weight;
  int64_t begin = 0;
  for (size_t e = 0; e < edits.size(); ++e) {
    const auto& target = edits[e].target;
    for (const auto& context : edits[e].contexts) {
      auto& sequence = sequences.emplace_back(context.ids);
      if (answered) sequence.insert(sequence.end(), target.begin(), target.end() - 1);
      rows.push_back(begin + std::ssize(context.ids) - 1);
      for (size_t t = 0; t < target.size(); ++t) {
        if (answered && t > 0) rows.push_back(rows.back() + 1);
        row.push_back(std::ssize(rows) - 1);
        ids.push_back(target[t]);
        owner.push_back(first_edit + static_cast<int64_t>(e));
        weight.push_back(1 / static_cast<double>(target.size() * edits[e].contexts.size()));
      }
      begin += std::ssize(sequence);
    }
  }
  const auto device = model.device();
  const auto longs = [&](const std::vector<int64_t>& values) {
    return at::tensor(at::IntArrayRef(values), at::kLong).to(device);
  };
  FineTunePart part{.batch = pack_sequences(sequences, device)};
  HiddenOptions below{.last = layer + 1, .key_experts = {{layer, site.experts}}};
  below.on_attention = [&](int64_t at_layer, const at::Tensor&, const at::Tensor& middle,
                           const at::Tensor&) {
    if (at_layer == layer) part.middle = middle;
  };
  below.on_key = [&](int64_t at_layer, const at::Tensor& key) {
    if (at_layer == layer) part.key = key;
  };
  below.on_mlp = [&](int64_t at_layer, const at::Tensor& output) {
    if (at_layer == layer) part.output = output;
  };
  model.hidden(part.batch, below);
  part.rows = longs(rows);
  part.row = longs(row);
  part.ids = longs(ids);
  part.owner = longs(owner);
  part.weight = at::tensor(at::ArrayRef<double>(weight), at::kDouble)
                    .to(device, widened(part.output).scalar_type());
  return part;
}

at::Tensor target_nll(const Model& model, int64_t layer, const FineTunePart& part,
                      const at::Tensor& delta, int64_t edits) {
  const auto output = part.output + resurface::linear(part.key, delta.to(part.key.scalar_type()));
  const auto stream = model.add_mlp(layer, part.middle, output);
  const auto logits = widened(model.logits(
      model.hidden(part.batch, {.first = layer + 1, .start = stream, .rows = part.rows})));
  const auto logprob = chosen_logprob(logits.index_select(0, part.row), part.ids);
  return at::zeros({edits}, logprob.options()).index_add(0, part.owner, -logprob * part.weight);
}

}  // namespace resurface
