#include "finetune/muon.h"

#include <cmath>

#include "core/tensor/ops.h"

namespace resurface {
namespace {

bool of_block(const std::string& name, const at::Tensor& value) {
  return value.dim() == 2 && name.starts_with("model.layers.");
}

}  // namespace

at::Tensor orthogonalize(const at::Tensor& update, int64_t steps) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  // On the smaller side, where X X' is smaller.
  const bool tall = update.size(0) > update.size(1);
  at::Tensor x = tall ? update.t() : update;
  x = x / x.norm().clamp_min(1e-7);
  for (int64_t step = 0; step < steps; ++step) {
    const at::Tensor gram = resurface::linear(x, x);  // symmetric, and so is what comes of it
    x = kA * x + resurface::linear(kB * gram + kC * resurface::linear(gram, gram), x.t());
  }
  return tall ? x.t() : x;
}

Muon::Muon(NamedTensors parameters, const MuonSettings& settings, const AdamWSettings& rest)
    : AdamW(std::move(parameters), rest,
            [](const auto& name, const auto& value) { return !of_block(name, value); }),
      muon_(settings),
      momentum_(zeros(of_block)) {}

std::vector<std::pair<const char*, const Optimizer::Slot*>> Muon::slots() const {
  auto all = AdamW::slots();
  all.emplace_back("momentum", &momentum_);
  return all;
}

void Muon::update(double learning_rate, double divisor) {
  AdamW::update(learning_rate, divisor);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor &value = parameters_[i].second, &gradient = value.grad();
    if (!momentum_[i].defined() || !gradient.defined()) continue;
    if (divisor != 1) gradient.div_(divisor);
    momentum_[i].lerp_(gradient, 1 - muon_.momentum);
    const at::Tensor direction =
        orthogonalize(muon_.nesterov ? gradient.lerp(momentum_[i], muon_.momentum) : momentum_[i],
                      muon_.ns_steps);
    const auto most = static_cast<double>(std::max(value.size(0), value.size(1)));
    const auto least = static_cast<double>(std::min(value.size(0), value.size(1)));
    decay(value, learning_rate * settings_.weight_decay);
    value.sub_(direction, learning_rate * 0.2 * std::sqrt(most));
    flops_ += static_cast<double>(muon_.ns_steps) * least * least * (4 * most + 2 * least);
  }
}

}  // namespace resurface
