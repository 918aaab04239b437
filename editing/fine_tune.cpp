// FT-L (Zhu et al. 2020, Modifying Memories in Transformer Models; the baseline of Meng et al.
// 2022) and FT-M (Zhang et al. 2024, A Comprehensive Study of Knowledge Editing): one down
// projection is trained by Adam on the requests, each weight kept within `clamp` of its start.
//
//   FT-L: loss = -mean_t log p(y_t | x)         every target token at the prompt's last position
//   FT-M: loss = -mean_t log p(y_t | x, y_<t)   the target as it would be answered
//
// The reference takes the requests in small batches, a step each; here a step sees the whole batch.
// Blocks up to the edited one run once: Δ is trained on their outputs, the model is not written.
#include "core/tensor/ops.h"
#include "editing/adam.h"
#include "editing/editors.h"

namespace resurface {
namespace {

/// Some requests as the blocks above the edited one see them.
struct Part {
  Batch batch;
  at::Tensor key, after;       ///< [N, d_ff] and [N, d] of the edited block
  at::Tensor rows;             ///< [U] whose logits are wanted
  at::Tensor row, ids, owner;  ///< [M] of each target token: which of `rows`, its id, its request
  at::Tensor weight;           ///< [M] so that each request's sum is a mean
};

Part make_part(const Model& model, int64_t layer, std::span<const EditExample> edits,
               int64_t first_edit, bool answered) {
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
  Part part{.batch = pack_sequences(sequences, device)};
  HiddenOptions below{.last = layer + 1};
  below.on_key = [&](int64_t at_layer, const at::Tensor& key) {
    if (at_layer == layer) part.key = key;
  };
  part.after = model.hidden(part.batch, below);
  part.rows = longs(rows);
  part.row = longs(row);
  part.ids = longs(ids);
  part.owner = longs(owner);
  part.weight = at::tensor(at::ArrayRef<double>(weight), at::kDouble)
                    .to(device, widened(part.after).scalar_type());
  return part;
}

/// Mean NLL of a target token, of each of all `edits` requests; 0 for those not in the part.
at::Tensor target_nll(const Model& model, int64_t layer, const Part& part, const at::Tensor& delta,
                      int64_t edits) {
  const auto stream = part.after + resurface::linear(part.key, delta.to(part.key.scalar_type()));
  const auto logits = widened(model.logits(
      model.hidden(part.batch, {.first = layer + 1, .start = stream, .rows = part.rows})));
  const auto logprob = chosen_logprob(logits.index_select(0, part.row), part.ids);
  return at::zeros({edits}, logprob.options()).index_add(0, part.owner, -logprob * part.weight);
}

EditFile tune(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              int64_t layer, bool answered) {
  const Model::KeepTransposes transposes(model);
  std::vector<Part> parts;
  int64_t count = 0;
  for (const auto group : groups_by_tokens(edits, settings.batch_tokens)) {
    const at::NoGradGuard no_grad;
    parts.push_back(make_part(model, layer, group, count, answered));
    count += std::ssize(group);
  }
  const auto weight = widened(model.parameter(edited_parameter(layer)).detach());
  auto delta = at::zeros_like(weight);
  Adam adam(delta);
  at::Tensor nll;
  int64_t step = 0;
  for (;; ++step) {
    nll = at::zeros({count}, weight.options());
    auto gradient = at::zeros_like(weight);
    auto leaf = delta.detach().requires_grad_(true);
    for (const Part& part : parts) {
      const at::AutoGradMode grad(step < settings.steps);
      const auto loss = target_nll(model, layer, part, leaf, count);
      nll += loss.detach();
      if (step < settings.steps) {
        gradient += torch::autograd::grad({loss.sum() / count}, {leaf}).at(0);
      }
    }
    if (step == settings.steps || nll.mean().item<double>() < settings.early_stop) break;
    const at::NoGradGuard no_grad;
    delta = delta - adam.step(gradient, settings.learning_rate);
    if (settings.clamp > 0) delta = delta.clamp(-settings.clamp, settings.clamp);
  }
  EditFile file;
  file.deltas = {dense_delta(edited_parameter(layer), delta)};
  for (int64_t e = 0; e < count; ++e) {
    file.measures.push_back({.id = edits[static_cast<size_t>(e)].id,
                             .layer = layer,
                             .relative_norm = (delta.norm() / weight.norm()).item<double>(),
                             .target_loss = nll[e].item<double>(),
                             .steps = step});
  }
  return file;
}

EditFile fine_tune(const FtSettings& settings, const Model& model,
                   std::span<const EditExample> edits, bool answered) {
  const int64_t layer = edited_layer(settings.layer, 0.66, model);
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    return tune(settings, current, batch, layer, answered);
  });
}

}  // namespace

EditFile ft_l(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics&) {
  return fine_tune(settings, model, edits, false);
}

EditFile ft_m(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics&) {
  return fine_tune(settings, model, edits, true);
}

}  // namespace resurface
