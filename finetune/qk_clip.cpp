#include "finetune/qk_clip.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

/// q k' of each head, the largest over all pairs that the causal mask lets see
/// each other: [heads]. q [N, heads · head_dim], k [N, kv_heads · head_dim].
at::Tensor largest_logits(const at::Tensor& q, const at::Tensor& k, const Batch& batch,
                          const ModelConfig& config) {
  std::vector<at::Tensor> of_sequences;
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    const int64_t length = batch.lengths[b];
    const auto heads = [&](const at::Tensor& rows, int64_t count) {  // [count, T, head_dim]
      return rows.narrow(0, batch.starts[b], length)
          .to(at::kFloat)
          .view({length, count, config.head_dim})
          .transpose(0, 1);
    };
    const at::Tensor keys =
        heads(k, config.kv_heads).repeat_interleave(config.heads / config.kv_heads, 0);
    const at::Tensor logits = at::matmul(heads(q, config.heads), keys.transpose(1, 2));
    const at::Tensor later = at::ones({length, length}, logits.options()).triu(1).to(at::kBool);
    of_sequences.push_back(
        logits.masked_fill(later, -std::numeric_limits<float>::infinity()).amax({1, 2}));
  }
  return at::stack(of_sequences).amax(0);
}

/// Multiplies what makes each head of `rows`, [N, heads · head_dim], and the rows themselves.
void scale(Linear& linear, const at::Tensor& rows, const at::Tensor& factors) {
  const int64_t heads = factors.size(0);
  const auto by_head = [&](const at::Tensor& x, int64_t first, int64_t rest) {
    x.view({first, heads, -1, rest}).mul_(factors.to(x.scalar_type()).view({1, heads, 1, 1}));
  };
  by_head(linear.weight, 1, linear.weight.size(1));
  if (linear.bias.defined()) by_head(linear.bias, 1, 1);
  by_head(rows, rows.size(0), 1);
}

}  // namespace

at::Tensor clip_attention(Model& model, const Batch& batch, double tau) {
  const at::NoGradGuard no_grad;
  const ModelConfig& config = model.config();
  if (config.latent || config.linear || config.query_key_norm != QueryKeyNorm::none) {
    fail("muonclip: '{}' models {}; choose muon", config.family,
         config.latent || config.linear ? "have attention whose scores it cannot clip"
                                        : "normalise queries and keys, whose scores cannot grow");
  }
  const double scores = config.attention_scale > 0
                            ? config.attention_scale
                            : 1 / std::sqrt(static_cast<double>(config.head_dim));
  std::vector<at::Tensor> all;
  const auto clip = [&](int64_t layer, const at::Tensor& q, const at::Tensor& k) {
    const at::Tensor largest = scores * largest_logits(q, k, batch, config);
    all.push_back(largest);
    Block& block = model.block(layer);
    if (!block.q.weight.requires_grad()) return;
    // A factor of 1 leaves every bit.
    const at::Tensor factor = at::where(largest > tau, tau / largest, at::ones_like(largest));
    if (config.heads == config.kv_heads && block.k.weight.requires_grad()) {
      scale(block.q, q, factor.sqrt());
      scale(block.k, k, factor.sqrt());
    } else {
      scale(block.q, q, factor);
    }
  };
  model.hidden(batch, {.stop_at_key = true, .on_query_key = clip});
  return at::stack(all);
}

}  // namespace resurface
