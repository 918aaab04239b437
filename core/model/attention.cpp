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

Model::AttentionPlan::AttentionPlan(const Batch& batch, const ModelConfig& config,
                                    at::ScalarType compute, const at::Tensor& cos_table,
                                    const at::Tensor& sin_table, const KvCache* cache,
                                    bool append) {
  const auto device = batch.ids.device();
  layout.starts.assign(batch.starts.begin(), batch.starts.end() - 1);
  layout.lengths = batch.lengths;
  layout.heads = config.heads;
  layout.kv_heads = config.kv_heads;
  const std::vector<int64_t> none(batch.lengths.size(), 0);
  const std::vector<int64_t>& seen = cache != nullptr ? cache->lengths : none;
  if (seen.size() != batch.lengths.size()) {
    fail("the key-value cache holds {} sequences, the batch {}", seen.size(), batch.lengths.size());
  }
  if (cache != nullptr) layout.prefix = seen;
  packed = packed_attention_takes(device, compute, config.head_dim);
  cos = cos_table.index_select(0, batch.positions);
  sin = sin_table.index_select(0, batch.positions);
  std::vector<int64_t> rows, places;
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    const auto length = static_cast<double>(batch.lengths[b]);
    pairs += length * (length + 1) / 2 + length * static_cast<double>(seen[b]);
    for (int64_t t = 0; t < batch.lengths[b]; ++t) {
      rows.push_back(static_cast<int64_t>(b));
      places.push_back(seen[b] + t);
    }
  }
  if (cache != nullptr && append) {
    cache_row = on(rows, device);
    cache_position = on(places, device);
  }
  if (!packed) pad(batch, seen, append);
}

void Model::AttentionPlan::assign_adapters(const Batch& batch, const at::Tensor& rows) {
  adapter_starts = batch.adapter_starts;
  if (adapter_starts.empty() || !rows.defined()) return;
  const at::Tensor chosen = rows.cpu().contiguous();
  const std::span<const int64_t> all(chosen.const_data_ptr<int64_t>(),
                                     static_cast<size_t>(chosen.size(0)));
  if (!std::is_sorted(all.begin(), all.end())) {
    fail("with stacked adapters the rows asked for must be in the batch's order");
  }
  for (const int64_t start : adapter_starts) {
    adapter_starts_of_rows.push_back(std::lower_bound(all.begin(), all.end(), start) - all.begin());
  }
}

void Model::AttentionPlan::pad(const Batch& batch, const std::vector<int64_t>& seen, bool append) {
  const auto device = batch.ids.device();
  longest = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  uniform = *std::min_element(batch.lengths.begin(), batch.lengths.end()) == longest;
  past = *std::max_element(seen.begin(), seen.end());
  std::vector<int64_t> pick_rows, back_rows;
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    for (int64_t t = 0; t < longest; ++t) {
      // Padding stands to the right of the real tokens, which a causal mask keeps from seeing it.
      const bool real = t < batch.lengths[b];
      pick_rows.push_back(real ? batch.starts[b] + t : 0);
      if (real) back_rows.push_back(static_cast<int64_t>(b) * longest + t);
    }
  }
  pick = on(pick_rows, device);
  back = on(back_rows, device);
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
                               .expand({batch.size(), 1, -1, -1});
    mask = at::cat({before, own}, 3);
  }
}

at::Tensor Model::attention(const Block& block, int64_t layer, const at::Tensor& x,
                            const AttentionPlan& plan, const HiddenOptions& options) const {
  const int64_t kv_heads = config_.kv_heads, dim = config_.head_dim;
  const auto& all = plan.adapters(false);
  const at::Tensor q = rotary(apply(block.q, x, all), plan.cos, plan.sin, config_.heads);
  const at::Tensor k = rotary(apply(block.k, x, all), plan.cos, plan.sin, kv_heads);
  if (options.on_query_key) options.on_query_key(layer, q, k);
  const at::Tensor v = apply(block.v, x, all);

  at::Tensor past_keys, past_values;  // [B, kv_heads, capacity, dim]
  if (options.cache != nullptr) {
    past_keys = options.cache->keys[static_cast<size_t>(layer)];
    past_values = options.cache->values[static_cast<size_t>(layer)];
    if (options.append) {
      for (const auto& [past, now] : {std::pair{past_keys, k}, std::pair{past_values, v}}) {
        past.transpose(1, 2).index_put_({plan.cache_row, plan.cache_position},
                                        now.view({-1, kv_heads, dim}));
      }
    }
  }
  at::Tensor result = plan.packed
                          ? packed_attention(q, k, v, plan.layout, past_keys, past_values)
                          : padded_attention(q, k, v, past_keys, past_values, plan, options.append);
  count(4 * plan.pairs * static_cast<double>(config_.heads * dim), q.requires_grad(),
        v.requires_grad());
  if (only_rows(layer, options)) result = result.index_select(0, options.rows);
  return apply(block.o, result, plan.adapters(only_rows(layer, options)));
}

at::Tensor Model::padded_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const at::Tensor& past_keys, const at::Tensor& past_values,
                                   const AttentionPlan& plan, bool append) const {
  const int64_t heads = config_.heads, kv_heads = config_.kv_heads, dim = config_.head_dim;
  const auto b = static_cast<int64_t>(plan.layout.lengths.size());
  const int64_t t = plan.longest;
  // [N, h·dim] -> [B, h, T, dim]
  const auto padded = [&](const at::Tensor& rows, int64_t h) {
    const at::Tensor all = plan.uniform ? rows : pad_rows(rows, plan.pick, plan.back);
    return all.view({b, t, h, dim}).transpose(1, 2);
  };
  const auto with_past = [&](const at::Tensor& past, const at::Tensor& now) {
    if (plan.past == 0) return padded(now, kv_heads);
    if (append) return past.narrow(2, 0, plan.past + t);
    return at::cat({past.narrow(2, 0, plan.past), padded(now, kv_heads)}, 2);
  };
  at::Tensor keys = with_past(past_keys, k), values = with_past(past_values, v);
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
  const at::Tensor rows = out.transpose(1, 2).reshape({b * t, heads * dim});
  return plan.uniform ? rows : unpad_rows(rows, plan.back);
}

}  // namespace resurface
