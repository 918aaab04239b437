#include "editing/rome.h"

#include "core/run/config.h"

namespace resurface {
namespace {

std::string edited_parameter(int64_t layer) {
  return fmt::format("model.layers.{}.mlp.down_proj.weight", layer);
}

/// Values one by one, each on a copy of the model that holds the edits before it.
class SequentialValues {
 public:
  SequentialValues(const RomeSettings& settings, const Model& model, int64_t layer)
      : settings_(settings), model_(model.clone()), layer_(layer) {}

  KeysValues next(const EditExample& edit) {
    return keys_and_values(model_, layer_, std::span(&edit, 1), settings_.value);
  }
  void write(const at::Tensor& left, const at::Tensor& right) {
    const at::NoGradGuard no_grad;
    auto weight = model_.parameter(edited_parameter(layer_));
    weight.copy_(edited(weight, {edited_parameter(layer_), left, right}));
  }

 private:
  const RomeSettings& settings_;
  Model model_;
  int64_t layer_;
};

}  // namespace

int64_t rome_layer(const RomeSettings& settings, const Model& model) {
  const int64_t layer = settings.layer >= 0
                            ? settings.layer
                            : std::llround(0.16 * static_cast<double>(model.layers()));
  if (layer >= model.layers()) {
    fail("rome: layer {} asked, the model has layers 0 .. {}", layer, model.layers() - 1);
  }
  return layer;
}

EditFile rome(const RomeSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics) {
  if (edits.empty()) fail("rome: there are no requests");
  const int64_t layer = rome_layer(settings, model);
  const auto row = [](const at::Tensor& rows, size_t e) {  // [1, n] -> fp64 on the host
    return rows[static_cast<int64_t>(e)].to(at::kCPU, at::kDouble);
  };
  std::optional<SequentialValues> one_by_one;
  KeysValues kv;
  if (settings.sequential_values) {
    one_by_one.emplace(settings, model, layer);
  } else {
    kv = keys_and_values(model, layer, edits, settings.value);
  }

  const auto weight = model.parameter(edited_parameter(layer)).detach().to(at::kCPU, at::kDouble);
  const double weight_norm = weight.norm().item<double>();
  const auto bias = model.config().mlp_bias
                        ? model.parameter(fmt::format("model.layers.{}.mlp.down_proj.bias", layer))
                              .detach()
                              .to(at::kCPU, at::kDouble)
                        : at::zeros({weight.size(0)}, at::kDouble);
  EditFile file;
  file.method = "rome";
  file.settings = to_json(settings).dump();
  auto written = weight.clone();  // W with the requests before this one
  std::vector<at::Tensor> lefts, rights;
  for (size_t e = 0; e < edits.size(); ++e) {
    const size_t at = one_by_one ? 0 : e;
    if (one_by_one) kv = one_by_one->next(edits[e]);
    const auto mean_key = row(kv.key, at);
    const auto key = settings.original_key ? row(kv.bare_key, at) : mean_key;
    const auto value = row(kv.initial, at) + row(kv.delta, at);  // v* = v0 + δ

    // u = C⁻¹ k̄ / ‖C⁻¹ k̄‖
    const auto whitened = statistics.solve(layer, settings.ridge, mean_key.unsqueeze(1)).squeeze(1);
    const auto u = whitened / whitened.norm();
    // ΔW = (v* - W k) (kᵀu)⁻¹ uᵀ
    const double key_dot_u = key.dot(u).item<double>();
    const auto left = ((value - written.mv(key) - bias) / key_dot_u).to(at::kFloat);
    const auto right = u.to(at::kFloat);
    if (!at::isfinite(left).all().item<bool>()) {
      fail("edit request '{}': the update is not finite (k'u = {})", edits[e].id, key_dot_u);
    }
    written += at::outer(left.to(at::kDouble), right.to(at::kDouble));
    lefts.push_back(left.unsqueeze(1));
    rights.push_back(right.unsqueeze(0));
    if (one_by_one) one_by_one->write(lefts.back(), rights.back());

    EditMeasure measure;
    measure.id = edits[e].id;
    measure.layer = layer;
    measure.key_dot_u = key_dot_u;
    // kᵀC⁻¹k̄ / sqrt(k̄ᵀC⁻¹k̄ · kᵀC⁻¹k): 1 for R-ROME, where both keys are the same.
    if (settings.original_key) {
      const auto own = statistics.solve(layer, settings.ridge, key.unsqueeze(1)).squeeze(1);
      measure.key_alignment =
          key.dot(whitened).item<double>() /
          std::sqrt(mean_key.dot(whitened).item<double>() * key.dot(own).item<double>());
    }
    measure.relative_norm = left.norm().item<double>() * right.norm().item<double>() / weight_norm;
    measure.target_loss = row(kv.nll, at).item<double>();
    measure.steps = kv.steps[static_cast<int64_t>(at)].item<int64_t>();
    file.measures.push_back(measure);
  }
  file.deltas.push_back({edited_parameter(layer), at::cat(lefts, 1), at::cat(rights, 0)});
  return file;
}

EditFile rome(const RomeSettings& settings, const Model& model, const Tokenizer& tokenizer,
              std::span<const EditRequest> requests, Statistics& statistics) {
  const auto full = with_generated_contexts(model, tokenizer, requests, settings.contexts);
  std::vector<EditExample> edits;
  for (const auto& request : full) {
    edits.push_back(tokenize_request(tokenizer, request, settings.value));
  }
  auto file = rome(settings, model, edits, statistics);
  file.base_hash = model.content_hash();
  file.requests = full;
  return file;
}

}  // namespace resurface
