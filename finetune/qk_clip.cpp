#include "finetune/qk_clip.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

/// q k' of each head, the largest over all pairs that the layer's mask lets see each other:
/// [heads]. q [N, heads · dims], k [N, kv_heads · dims].
at::Tensor largest_logits(const at::Tensor& q, const at::Tensor& k, const Batch& batch,
                          const ModelConfig& config, int64_t window) {
  const int64_t kv_heads = config.latent ? config.heads : config.kv_heads;
  std::vector<at::Tensor> of_sequences;
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    const int64_t length = batch.lengths[b];
    const auto heads = [&](const at::Tensor& rows, int64_t count) {  // [count, T, dims]
      return rows.narrow(0, batch.starts[b], length)
          .to(at::kFloat)
          .view({length, count, config.key_dims()})
          .transpose(0, 1);
    };
    const at::Tensor keys = heads(k, kv_heads).repeat_interleave(config.heads / kv_heads, 0);
    const at::Tensor logits = at::matmul(heads(q, config.heads), keys.transpose(1, 2));
    at::Tensor unseen = at::ones({length, length}, logits.options()).triu(1);
    if (window > 0) unseen += at::ones_like(unseen).tril(-window);
    of_sequences.push_back(
        logits.masked_fill(unseen.to(at::kBool), -std::numeric_limits<float>::infinity())
            .amax({1, 2}));
  }
  return at::stack(of_sequences).amax(0);
}

/// Multiplies dims [begin, begin + size) of each head in `rows`, [N, heads · dims of a head].
void scale_rows(const at::Tensor& rows, const at::Tensor& factors, int64_t begin, int64_t size) {
  rows.view({rows.size(0), factors.size(0), -1})
      .narrow(2, begin, size)
      .mul_(factors.to(rows.scalar_type()).view({1, -1, 1}));
}

/// The same of what a linear makes: its rows of weight and bias.
void scale(Linear& linear, const at::Tensor& factors, int64_t begin, int64_t size) {
  const auto by_head = [&](const at::Tensor& x) {
    x.view({factors.size(0), -1, x.numel() / x.size(0)})
        .narrow(1, begin, size)
        .mul_(factors.to(x.scalar_type()).view({-1, 1, 1}));
  };
  by_head(linear.weight);
  if (linear.bias.defined()) by_head(linear.bias);
}

}  // namespace

at::Tensor clip_attention(Model& model, const Batch& batch, double tau) {
  const at::NoGradGuard no_grad;
  const ModelConfig& config = model.config();
  if (config.query_key_norm != QueryKeyNorm::none) {
    fail("muonclip: '{}' models normalise queries and keys, whose scores cannot grow; choose muon",
         config.family);
  }
  const double scores = config.attention_scale > 0
                            ? config.attention_scale
                            : 1 / std::sqrt(static_cast<double>(config.key_dims()));
  // What each head makes its own key of. In latent attention the other dims, turned by the
  // positions, are one key for all heads.
  const int64_t own = config.latent ? config.latent->plain_dims : config.head_dim;
  const int64_t shared = config.key_dims() - own;
  std::vector<at::Tensor> all;
  const auto clip = [&](int64_t layer, const at::Tensor& q, const at::Tensor& k) {
    const at::Tensor largest = scores * largest_logits(q, k, batch, config, config.window(layer));
    all.push_back(largest);
    Block& block = model.block(layer);
    Linear& keys = config.latent ? block.kv : block.k;
    if (!block.q.weight.requires_grad()) return;
    // A factor of 1 leaves every bit.
    const at::Tensor factor = at::where(largest > tau, tau / largest, at::ones_like(largest));
    const bool both =
        (config.latent || config.heads == config.kv_heads) && keys.weight.requires_grad();
    const at::Tensor of_query = both ? factor.sqrt() : factor;
    scale(block.q, of_query, 0, own);
    scale_rows(q, of_query, 0, own);
    if (both) {
      scale(keys, of_query, 0, own);
      scale_rows(k, of_query, 0, own);
    }
    if (shared > 0) {
      scale(block.q, factor, own, shared);
      scale_rows(q, factor, own, shared);
    }
  };
  model.hidden(batch, {.stop_at_key = true, .on_query_key = clip});
  return all.empty() ? at::empty({0, config.heads}) : at::stack(all);
}

}  // namespace resurface
