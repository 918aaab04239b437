#include "finetune/lat.h"

#include <cmath>

namespace resurface {
namespace {

/// While it lives, no gradient of these weights is computed.
class HoldStill {
 public:
  explicit HoldStill(const NamedTensors& weights) {
    for (const auto& [name, value] : weights) {
      if (!value.requires_grad()) continue;
      value.set_requires_grad(false);
      held_.push_back(value);
    }
  }
  HoldStill(const HoldStill&) = delete;
  HoldStill& operator=(const HoldStill&) = delete;
  ~HoldStill() {
    for (const at::Tensor& value : held_) value.set_requires_grad(true);
  }

 private:
  std::vector<at::Tensor> held_;
};

/// [N, 1]: 1 at the tokens that may be disturbed.
at::Tensor reach_of(const Batch& batch, bool prompt_only, const at::TensorOptions& options) {
  if (!prompt_only) return at::ones({batch.tokens(), 1}, options);
  // A sequence's prompt ends with the row that predicts its first answer token.
  const at::Tensor rows = batch.rows.cpu(), sequence = batch.sequence.cpu();
  std::vector<int64_t> last(static_cast<size_t>(batch.size()), -1);
  for (int64_t i = rows.size(0) - 1; i >= 0; --i) {
    last[static_cast<size_t>(sequence[i].item<int64_t>())] = rows[i].item<int64_t>();
  }
  const at::Tensor mask = at::zeros({batch.tokens(), 1});
  for (int64_t b = 0; b < batch.size(); ++b) {
    const auto s = static_cast<size_t>(b);
    mask.slice(0, batch.starts[s], last[s] + 1).fill_(1);
  }
  return mask.to(options);
}

}  // namespace

std::vector<int64_t> LatSettings::blocks(const ModelConfig& model) const {
  for (const int64_t layer : layers) {
    if (layer >= model.layers) {
      throw ConfigError(fmt::format("lat: layer {} of a model whose layers are 0 .. {}", layer,
                                    model.layers - 1));
    }
  }
  if (!layers.empty()) return layers;
  return {std::llround(7.0 / 32.0 * static_cast<double>(model.layers))};
}

std::vector<Batch::Added> latent_attack(const Model& model, const Batch& batch,
                                        const NamedTensors& weights, const LatSettings& settings) {
  if (!settings.on()) return {};
  const HoldStill held(weights);
  const bool fp64 = model.parameters().front().second.scalar_type() == at::kDouble;
  const auto options =
      at::TensorOptions().dtype(fp64 ? at::kDouble : at::kFloat).device(model.device());
  const at::Tensor reach = reach_of(batch, settings.tokens == "prompt", options);
  const double length = settings.step_size > 0
                            ? settings.step_size
                            : 2.5 * settings.epsilon / static_cast<double>(settings.steps);
  Batch attacked = batch;
  torch::autograd::variable_list deltas;
  for (const int64_t layer : settings.blocks(model.config())) {
    deltas.push_back(at::zeros({batch.tokens(), model.config().hidden_size}, options));
    attacked.added.push_back({layer, deltas.back()});
  }
  const auto norms = [](const at::Tensor& rows) { return rows.norm(2, -1, /*keepdim=*/true); };
  for (int64_t step = 0; step < settings.steps; ++step) {
    for (size_t i = 0; i < deltas.size(); ++i) deltas[i].set_requires_grad(true);
    const auto gradients =
        torch::autograd::grad({model.token_nll(attacked)}, deltas, {}, std::nullopt, false,
                              /*allow_unused=*/true);
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < deltas.size(); ++i) {
      deltas[i].set_requires_grad(false);
      if (!gradients[i].defined()) continue;
      const at::Tensor uphill = gradients[i] * reach;
      const at::Tensor norm = norms(uphill);
      // Nowhere to go from a point without a slope.
      deltas[i].sub_(uphill * at::where(norm > 0, length / norm, at::zeros_like(norm)));
      deltas[i].mul_((settings.epsilon / norms(deltas[i]).clamp_min(settings.epsilon)));
    }
  }
  return attacked.added;
}

}  // namespace resurface
