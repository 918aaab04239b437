#include "core/model/attention.h"

#include <algorithm>

#include "core/run/error.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

at::Tensor on(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(at::IntArrayRef(values), at::TensorOptions().dtype(at::kLong)).to(device);
}

}  // namespace

Model::AttentionPlan::AttentionPlan(const Batch& batch, const at::Tensor& cos_table,
                                    const at::Tensor& sin_table, const KvCache* cache,
                                    bool append) {
  const auto device = batch.ids.device();
  sequences = batch.size();
  longest = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  const int64_t shortest = *std::min_element(batch.lengths.begin(), batch.lengths.end());
  uniform = shortest == longest;

  std::vector<int64_t> pick_rows, back_rows, rows, places;
  const std::vector<int64_t> none(batch.lengths.size(), 0);
  const std::vector<int64_t>& seen = cache != nullptr ? cache->lengths : none;
  if (seen.size() != batch.lengths.size()) {
    fail("the key-value cache holds {} sequences, the batch {}", seen.size(), batch.lengths.size());
  }
  past = *std::max_element(seen.begin(), seen.end());
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    const int64_t length = batch.lengths[b];
    for (int64_t t = 0; t < longest; ++t) {
      // Padding stands to the right of the real tokens, which a causal mask keeps from seeing it.
      pick_rows.push_back(t < length ? batch.starts[b] + t : 0);
      if (t < length) {
        back_rows.push_back(static_cast<int64_t>(b) * longest + t);
        rows.push_back(static_cast<int64_t>(b));
        places.push_back(seen[b] + t);
      }
    }
    pairs += static_cast<double>(length) * (static_cast<double>(length) + 1) / 2 +
             static_cast<double>(length) * static_cast<double>(seen[b]);
  }
  pick = on(pick_rows, device);
  back = on(back_rows, device);
  cos = cos_table.index_select(0, batch.positions);
  sin = sin_table.index_select(0, batch.positions);
  if (cache != nullptr && append) {
    cache_row = on(rows, device);
    cache_position = on(places, device);
  }
  if (past == 0) return;

  const at::Tensor lengths = on(seen, device).view({-1, 1, 1, 1});
  const at::Tensor query = at::arange(longest, at::device(device)).view({1, 1, -1, 1});
  if (append) {  // keys lie at their positions in the cache
    const at::Tensor key = at::arange(past + longest, at::device(device)).view({1, 1, 1, -1});
    mask = key.le(query + lengths);
  } else {  // the cached prefix, padded to P, then the batch's own keys
    const at::Tensor before = at::arange(past, at::device(device))
                                  .view({1, 1, 1, -1})
                                  .lt(lengths)
                                  .expand({-1, 1, longest, -1});
    const at::Tensor own = at::arange(longest, at::device(device))
                               .view({1, 1, 1, -1})
                               .le(query)
                               .expand({sequences, 1, -1, -1});
    mask = at::cat({before, own}, 3);
  }
}

at::Tensor Model::attention(const Block& block, int64_t layer, const at::Tensor& x,
                            const AttentionPlan& plan, const HiddenOptions& options) const {
  const int64_t heads = config_.heads, kv_heads = config_.kv_heads, dim = config_.head_dim;
  const int64_t b = plan.sequences, t = plan.longest;

  const at::Tensor q = rotary(apply(block.q, x), plan.cos, plan.sin, heads);
  const at::Tensor k = rotary(apply(block.k, x), plan.cos, plan.sin, kv_heads);
  const at::Tensor v = apply(block.v, x);

  // [N, h·dim] -> [B, h, T, dim]
  const auto padded = [&](const at::Tensor& rows, int64_t h) {
    const at::Tensor all = plan.uniform ? rows : pad_rows(rows, plan.pick, plan.back);
    return all.view({b, t, h, dim}).transpose(1, 2);
  };
  at::Tensor keys, values;
  KvCache* cache = options.cache;
  const auto at_layer = static_cast<size_t>(layer);
  if (cache != nullptr && options.append) {
    cache->keys[at_layer].transpose(1, 2).index_put_({plan.cache_row, plan.cache_position},
                                                     k.view({-1, kv_heads, dim}));
    cache->values[at_layer].transpose(1, 2).index_put_({plan.cache_row, plan.cache_position},
                                                       v.view({-1, kv_heads, dim}));
  }
  if (plan.past == 0) {
    keys = padded(k, kv_heads);
    values = padded(v, kv_heads);
  } else if (options.append) {
    keys = cache->keys[at_layer].narrow(2, 0, plan.past + t);
    values = cache->values[at_layer].narrow(2, 0, plan.past + t);
  } else {
    keys = at::cat({cache->keys[at_layer].narrow(2, 0, plan.past), padded(k, kv_heads)}, 2);
    values = at::cat({cache->values[at_layer].narrow(2, 0, plan.past), padded(v, kv_heads)}, 2);
  }
  if (kv_heads != heads) {  // every key-value head serves heads / kv_heads queries
    const auto repeat = [&](const at::Tensor& y) {
      return y.unsqueeze(2)
          .expand({b, kv_heads, heads / kv_heads, y.size(2), dim})
          .reshape({b, heads, y.size(2), dim});
    };
    keys = repeat(keys);
    values = repeat(values);
  }
  const at::Tensor out =
      plan.past == 0
          ? at::scaled_dot_product_attention(padded(q, heads), keys, values, {}, 0.0, true)
          : at::scaled_dot_product_attention(padded(q, heads), keys, values, plan.mask, 0.0, false);
  const double flops = 4 * plan.pairs * static_cast<double>(heads * dim);
  count(flops, q.requires_grad(), v.requires_grad());

  const at::Tensor rows = out.transpose(1, 2).reshape({b * t, heads * dim});
  at::Tensor result = plan.uniform ? rows : unpad_rows(rows, plan.back);
  if (only_rows(layer, options)) result = result.index_select(0, options.rows);
  return apply(block.o, result);
}

}  // namespace resurface
