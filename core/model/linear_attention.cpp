// Lightning attention (MiniMax-01, arXiv 2501.08313, section 2.2): of each head
//   S_t = e^(-rate) S_(t-1) + k_tᵀ v_t,   o_t = q_t S_t
// whose sum over a block of positions is taken as one masked product. S is what a cache keeps.
#include <cmath>

#include "core/model/attention.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

/// How fast each head forgets, [heads] double: 2^(-8 (g + 1) / heads), less in later layers.
at::Tensor decay_rates(const ModelConfig& config, int64_t layer) {
  const double share =
      1 - static_cast<double>(layer) / (static_cast<double>(config.layers) - 1 + 1e-5) + 1e-5;
  std::vector<double> rates;
  for (int64_t g = 1; g <= config.heads; ++g) {
    rates.push_back(
        std::pow(2.0, -8.0 * static_cast<double>(g) / static_cast<double>(config.heads)) * share);
  }
  return at::tensor(at::ArrayRef<double>(rates), at::kDouble);
}

}  // namespace

at::Tensor Model::linear_attention(const Block& block, int64_t layer, const at::Tensor& x,
                                   const AttentionPlan& plan, const HiddenOptions& options) const {
  const auto& all = plan.adapters(false);
  const int64_t heads = config_.heads, dim = config_.head_dim;
  // [N, heads · dim] -> [heads, N, dim]
  const auto by_head = [&](const Linear& linear) {
    return at::silu(apply(linear, x, all)).view({-1, heads, dim}).transpose(0, 1);
  };
  const at::Tensor q = by_head(block.q), k = by_head(block.k), v = by_head(block.v);
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor rate = decay_rates(config_, layer).to(x.device()).view({heads, 1, 1});
  const auto decay = [&](const at::Tensor& steps) { return (-rate * steps).exp().to(wide); };

  std::vector<at::Tensor> outputs, states;
  for (size_t b = 0; b < plan.layout.lengths.size(); ++b) {
    at::Tensor state =
        options.cache != nullptr
            ? options.cache->keys[static_cast<size_t>(layer)][static_cast<int64_t>(b)].to(wide)
            : at::zeros({heads, dim, dim}, x.options().dtype(wide));
    const int64_t end = plan.layout.starts[b] + plan.layout.lengths[b];
    for (int64_t from = plan.layout.starts[b]; from < end; from += config_.linear->block) {
      const int64_t size = std::min(config_.linear->block, end - from);
      const auto part = [&](const at::Tensor& rows) { return rows.narrow(1, from, size).to(wide); };
      const at::Tensor qs = part(q), ks = part(k), vs = part(v);
      const at::Tensor at_step =
          at::arange(1, size + 1, at::device(x.device()).dtype(at::kDouble)).view({1, -1, 1});
      const at::Tensor distance = at_step - at_step.transpose(1, 2);
      const at::Tensor within = at::where(distance.ge(0), decay(distance.clamp_min(0)), 0.0);
      outputs.push_back((qs.matmul(ks.transpose(1, 2)) * within).matmul(vs) +
                        (qs * decay(at_step)).matmul(state));
      state = state * decay(at::full({1, 1, 1}, static_cast<double>(size), at_step.options())) +
              (ks * decay(static_cast<double>(size) - at_step)).transpose(1, 2).matmul(vs);
      // Scores and their sum within the block, the state's part and its update.
      count(4.0 * static_cast<double>(heads * size * size * dim) +
                4.0 * static_cast<double>(heads * size * dim * dim),
            q.requires_grad(), v.requires_grad());
    }
    states.push_back(state);
  }
  if (options.cache != nullptr && options.append) {
    options.cache->keys[static_cast<size_t>(layer)].copy_(at::stack(states));
  }
  at::Tensor out = at::cat(outputs, 1).transpose(0, 1).reshape({-1, heads * dim});
  const bool rows = only_rows(layer, options);
  const auto picked = [&](const at::Tensor& y) {
    return rows ? y.index_select(0, options.rows) : y;
  };
  constexpr double kEps = 1e-6;  // of this norm, whatever the model's is
  const at::Tensor gate = at::sigmoid(apply(block.output_gate, picked(x), plan.adapters(rows)));
  return apply(block.o, normed(picked(out), block.output_norm, kEps, compute_) * gate,
               plan.adapters(rows));
}

}  // namespace resurface
