#include "core/model/attention.h"

#include <algorithm>
#include <cmath>

#include "core/run/error.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

at::Tensor on(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(at::IntArrayRef(values), at::TensorOptions().dtype(at::kLong)).to(device);
}

/// Rotary embedding of the first dims of each head. Interleaved pairs come out side by side, first
/// members before second ones: queries and keys alike, so that their products are the same.
at::Tensor turned(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  bool interleaved, int64_t heads) {
  const int64_t n = x.size(0), dim = x.size(1) / heads, dims = 2 * cos.size(1);
  if (dims == dim && !interleaved) return rotary(x, cos, sin, heads);
  const at::Tensor all = x.view({n, heads, dim});
  at::Tensor part = all.narrow(2, 0, dims);
  if (interleaved) part = part.unflatten(2, {dims / 2, 2}).transpose(2, 3);
  part = rotary(part.reshape({n, heads * dims}), cos, sin, heads).view({n, heads, dims});
  if (dims == dim) return part.view({n, heads * dim});
  return at::cat({part, all.narrow(2, dims, dim - dims)}, 2).view({n, heads * dim});
}

}  // namespace

std::vector<int64_t> starts_among(const std::vector<int64_t>& starts, const at::Tensor& rows) {
  const at::Tensor whole = rows.contiguous();
  const std::span<const int64_t> all(whole.const_data_ptr<int64_t>(),
                                     static_cast<size_t>(whole.size(0)));
  std::vector<int64_t> among;
  for (const int64_t start : starts) {
    among.push_back(std::lower_bound(all.begin(), all.end(), start) - all.begin());
  }
  return among;
}

double attention_pairs(int64_t length, int64_t seen, int64_t window) {
  const auto up_to = [&](int64_t positions) {  // pairs of the first so many positions
    const auto n = static_cast<double>(positions);
    if (window == 0 || positions <= window) return n * (n + 1) / 2;
    const auto w = static_cast<double>(window);
    return w * (w + 1) / 2 + (n - w) * w;
  };
  return up_to(seen + length) - up_to(seen);
}

Model::AttentionPlan::AttentionPlan(const Model& model, const Batch& batch, const KvCache* cache,
                                    bool append) {
  const auto device = batch.ids.device();
  const ModelConfig& config = model.config_;
  layout.starts.assign(batch.starts.begin(), batch.starts.end() - 1);
  layout.lengths = batch.lengths;
  layout.heads = config.heads;
  layout.kv_heads = config.kv_heads;
  layout.scale = config.attention_scale;
  layout.prefix.assign(batch.lengths.size(), 0);
  if (cache != nullptr) {
    if (cache->lengths.size() != batch.lengths.size()) {
      fail("the key-value cache holds {} sequences, the batch {}", cache->lengths.size(),
           batch.lengths.size());
    }
    layout.prefix = cache->lengths;
  }
  packed = packed_attention_takes(device, model.compute_, config.head_dim) && !config.latent &&
           config.attention_softcap == 0;
  if (model.turn_) turn = turned_by(*model.turn_, batch);
  if (model.local_turn_) local_turn = turned_by(*model.local_turn_, batch);

  std::vector<int64_t> rows, places;
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    for (int64_t t = 0; t < batch.lengths[b]; ++t) {
      rows.push_back(static_cast<int64_t>(b));
      places.push_back(layout.prefix[b] + t);
    }
  }
  if (cache != nullptr && append) {
    cache_row = on(rows, device);
    cache_position = on(places, device);
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const int64_t window = config.window(layer);
    if (pairs.contains(window)) continue;
    double& sum = pairs[window];
    for (size_t b = 0; b < batch.lengths.size(); ++b) {
      sum += attention_pairs(batch.lengths[b], layout.prefix[b], window);
    }
  }
  if (cache == nullptr) layout.prefix.clear();
  if (!packed) pad(batch, config, append);
}

Model::AttentionPlan::Turned Model::AttentionPlan::turned_by(const Model::Turn& by,
                                                             const Batch& batch) const {
  const at::Tensor position = batch.positions.to(at::kDouble).unsqueeze(1);
  at::Tensor angle = position * by.frequencies;
  if (by.long_frequencies.defined()) {
    std::vector<bool> beyond;  // of each token's sequence
    for (size_t b = 0; b < batch.lengths.size(); ++b) {
      const int64_t length = layout.prefix[b] + batch.lengths[b];
      beyond.insert(beyond.end(), static_cast<size_t>(batch.lengths[b]),
                    length > by.rope.original_context);
    }
    const std::vector<int64_t> flags(beyond.begin(), beyond.end());
    angle = at::where(on(flags, position.device()).to(at::kBool).unsqueeze(1),
                      position * by.long_frequencies, angle);
  }
  return {(angle.cos() * by.rope.attention_factor).to(at::kFloat),
          (angle.sin() * by.rope.attention_factor).to(at::kFloat), by.rope.interleaved};
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
  adapter_starts_of_rows = starts_among(adapter_starts, chosen);
}

void Model::AttentionPlan::pad(const Batch& batch, const ModelConfig& config, bool append) {
  const auto device = batch.ids.device();
  longest = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  uniform = *std::min_element(batch.lengths.begin(), batch.lengths.end()) == longest;
  for (size_t b = 0; b < layout.prefix.size(); ++b) {
    past = std::max(past, layout.prefix[b]);
    reach = std::max(reach, layout.prefix[b] + batch.lengths[b]);
  }
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
  for (const auto& [window, count] : pairs) {
    const bool binds = window > 0 && window < past + longest;
    if (past > 0 || binds || config.attention_softcap > 0) {
      masks[window] = mask(batch, window, append);
    }
  }
}

at::Tensor Model::AttentionPlan::mask(const Batch& batch, int64_t window, bool append) const {
  const auto device = batch.ids.device();
  const at::Tensor query = at::arange(longest, at::device(device)).view({1, 1, -1, 1});
  // How far back a query sees a key: within the window, itself included.
  const auto sees = [&](const at::Tensor& distance) {
    const at::Tensor before = distance.ge(0);
    return window > 0 ? before.logical_and(distance.lt(window)) : before;
  };
  const at::Tensor own = at::arange(longest, at::device(device)).view({1, 1, 1, -1});
  if (past == 0) return sees(query - own);
  const at::Tensor lengths = on(layout.prefix, device).view({-1, 1, 1, 1});
  const at::Tensor cached =
      at::arange(append ? reach : past, at::device(device)).view({1, 1, 1, -1});
  if (append) return sees(query + lengths - cached);  // keys lie at their positions in the cache
  // The cached prefix, padded to P, then the batch's own keys.
  return at::cat({sees(query + lengths - cached).logical_and(cached.lt(lengths)),
                  sees(query - own).expand({batch.size(), 1, -1, -1})},
                 3);
}

Model::QueryKeyValue Model::project(const Block& block, int64_t layer, const at::Tensor& x,
                                    const AttentionPlan& plan) const {
  const auto& all = plan.adapters(false);
  const int64_t n = x.size(0);
  QueryKeyValue out{apply(block.q, x, all), apply(block.k, x, all), apply(block.v, x, all)};
  if (config_.query_key_norm == QueryKeyNorm::all) {
    out.q = normed(out.q, block.q_norm);
    out.k = normed(out.k, block.k_norm);
  } else if (config_.query_key_norm == QueryKeyNorm::head) {
    out.q = normed(out.q.view({-1, config_.head_dim}), block.q_norm).view({n, -1});
    out.k = normed(out.k.view({-1, config_.head_dim}), block.k_norm).view({n, -1});
  }
  if (const auto* turn = plan.turned(config_, layer)) {
    out.q = turned(out.q, turn->cos, turn->sin, turn->interleaved, config_.heads);
    out.k = turned(out.k, turn->cos, turn->sin, turn->interleaved, config_.kv_heads);
  }
  return out;
}

Model::QueryKeyValue Model::project_latent(const Block& block, const at::Tensor& x,
                                           const AttentionPlan& plan) const {
  constexpr double kEps = 1e-6;  // of the norms in here, whatever the model's is
  const auto& all = plan.adapters(false);
  const LatentAttention& latent = *config_.latent;
  const int64_t n = x.size(0), heads = config_.heads;
  const at::Tensor from =
      latent.query_rank > 0 ? normed(apply(block.q_down, x, all), block.q_norm, kEps, compute_) : x;
  const auto q = apply(block.q, from, all)
                     .view({n, heads, -1})
                     .split_with_sizes({latent.plain_dims, latent.rope_dims}, 2);
  const auto down =
      apply(block.kv_down, x, all).split_with_sizes({latent.key_value_rank, latent.rope_dims}, 1);
  const auto kv = apply(block.kv, normed(down[0], block.k_norm, kEps, compute_), all)
                      .view({n, heads, -1})
                      .split_with_sizes({latent.plain_dims, latent.value_dims}, 2);
  const auto& [cos, sin, interleaved] = *plan.turn;
  const at::Tensor q_turned =
      turned(q[1].reshape({n, -1}), cos, sin, interleaved, heads).view({n, heads, -1});
  const at::Tensor k_turned =
      turned(down[1].contiguous(), cos, sin, interleaved, 1).view({n, 1, -1});
  return {at::cat({q[0], q_turned}, 2).view({n, -1}),
          at::cat({kv[0], k_turned.expand({n, heads, -1})}, 2).view({n, -1}),
          kv[1].reshape({n, -1})};
}

at::Tensor Model::attention(const Block& block, int64_t layer, const at::Tensor& x,
                            const AttentionPlan& plan, const HiddenOptions& options) const {
  const QueryKeyValue qkv =
      config_.latent ? project_latent(block, x, plan) : project(block, layer, x, plan);
  const auto& [q, k, v] = qkv;
  if (options.on_query_key) options.on_query_key(layer, q, k);

  at::Tensor past_keys, past_values;  // [B, kv_heads, capacity, dims]
  if (options.cache != nullptr) {
    past_keys = options.cache->keys[static_cast<size_t>(layer)];
    past_values = options.cache->values[static_cast<size_t>(layer)];
    if (options.append) {
      for (const auto& [past, now] : {std::pair{past_keys, k}, std::pair{past_values, v}}) {
        past.transpose(1, 2).index_put_({plan.cache_row, plan.cache_position},
                                        now.view({x.size(0), config_.kv_heads, -1}));
      }
    }
  }
  at::Tensor result;
  if (plan.packed) {
    AttentionLayout layout = plan.layout;
    layout.window = config_.window(layer);
    result = packed_attention(q, k, v, layout, past_keys, past_values);
  } else {
    result = padded_attention(qkv, layer, past_keys, past_values, plan, options.append);
  }
  count(2 * plan.pairs.at(config_.window(layer)) *
            static_cast<double>(config_.heads * (config_.key_dims() + config_.value_dims())),
        q.requires_grad(), v.requires_grad());
  if (only_rows(layer, options)) result = result.index_select(0, options.rows);
  return apply(block.o, result, plan.adapters(only_rows(layer, options)));
}

at::Tensor Model::padded_attention(const QueryKeyValue& qkv, int64_t layer,
                                   const at::Tensor& past_keys, const at::Tensor& past_values,
                                   const AttentionPlan& plan, bool append) const {
  const int64_t heads = config_.heads, kv_heads = config_.kv_heads;
  const auto b = static_cast<int64_t>(plan.layout.lengths.size());
  const int64_t t = plan.longest;
  // [N, h·dim] -> [B, h, T, dim]
  const auto padded = [&](const at::Tensor& rows, int64_t h) {
    const at::Tensor all = plan.uniform ? rows : pad_rows(rows, plan.pick, plan.back);
    return all.view({b, t, h, -1}).transpose(1, 2);
  };
  const auto with_past = [&](const at::Tensor& past, const at::Tensor& now) {
    if (plan.past == 0) return padded(now, kv_heads);
    if (append) return past.narrow(2, 0, plan.reach);
    return at::cat({past.narrow(2, 0, plan.past), padded(now, kv_heads)}, 2);
  };
  const at::Tensor queries = padded(qkv.q, heads);
  at::Tensor keys = with_past(past_keys, qkv.k), values = with_past(past_values, qkv.v);
  if (kv_heads != heads) {  // every key-value head serves heads / kv_heads queries
    const auto repeat = [&](const at::Tensor& y) {
      return y.unsqueeze(2)
          .expand({b, kv_heads, heads / kv_heads, y.size(2), y.size(3)})
          .reshape({b, heads, y.size(2), y.size(3)});
    };
    keys = repeat(keys);
    values = repeat(values);
  }
  std::optional<at::Tensor> mask;
  if (const auto found = plan.masks.find(config_.window(layer)); found != plan.masks.end()) {
    mask = found->second;
  }
  const double scale = config_.attention_scale > 0
                           ? config_.attention_scale
                           : 1 / std::sqrt(static_cast<double>(config_.key_dims()));
  at::Tensor out;
  if (config_.attention_softcap > 0) {
    const double cap = config_.attention_softcap;
    const at::Tensor scores = cap * at::tanh(queries.matmul(keys.transpose(2, 3)) * (scale / cap));
    const auto wide = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    out = at::softmax(scores.to(wide).masked_fill(mask->logical_not(),
                                                  -std::numeric_limits<double>::infinity()),
                      3)
              .to(values.scalar_type())
              .matmul(values);
  } else {
    out = at::scaled_dot_product_attention(queries, keys, values, mask, 0.0, !mask, scale);
  }
  const at::Tensor rows = out.transpose(1, 2).reshape({b * t, heads * config_.value_dims()});
  return plan.uniform ? rows : unpad_rows(rows, plan.back);
}

}  // namespace resurface
