// The forward pass of the decoder.
#include "core/model/attention.h"
#include "core/run/error.h"
#include "core/tensor/low_rank.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Runs `block` without keeping its activations; the backward pass runs it again.
struct Recompute : Function<Recompute> {
  using Body = std::function<at::Tensor(const at::Tensor&)>;
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Body* body) {
    ctx->save_for_backward({x});
    // A copy: the plan and options that it captures live on with it.
    ctx->saved_data["body"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(*body));
    return (*body)(x);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::AutoGradMode enable(true);
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    const auto holder = ctx->saved_data["body"].toCapsule();
    const at::Tensor y = static_cast<Holder*>(holder.get())->body(x);
    torch::autograd::backward({y}, {grads[0]});
    return {x.grad(), at::Tensor()};
  }
  struct Holder : torch::CustomClassHolder {
    explicit Holder(Body b) : body(std::move(b)) {}
    Body body;
  };
};

/// Whether anything of the block trains.
bool any_trains(const Block& block) {
  const auto of = [](const at::Tensor& x) { return x.defined() && x.requires_grad(); };
  for (const Norm* norm : {&block.attention_norm, &block.after_attention, &block.mlp_norm,
                           &block.after_mlp, &block.q_norm, &block.k_norm, &block.output_norm}) {
    if (of(norm->weight) || of(norm->bias)) return true;
  }
  if (of(block.router_scale)) return true;
  const auto trains = [&](const Linear& linear) {
    return of(linear.weight) || of(linear.bias) ||
           (linear.lora && (of(linear.lora->a) || of(linear.lora->b)));
  };
  const auto linears = const_cast<Block&>(block).linears();
  return trains(block.router) ||
         std::any_of(linears.begin(), linears.end(), [&](const Linear* l) { return trains(*l); });
}

}  // namespace

void Model::count(double flops, bool input_grad, bool weight_grad) const {
  flops_.forward += flops;
  if (!at::GradMode::is_enabled()) return;
  flops_.backward += flops * ((input_grad ? 1 : 0) + (weight_grad ? 1 : 0));
}

at::Tensor Model::compute_weight(const at::Tensor& weight) const {
  if (weight.scalar_type() == compute_) return weight;
  const void* key = weight.unsafeGetTensorImpl();
  if (!casts_.contains(key)) {
    std::erase_if(casts_, [](const auto& known) { return known.second.owner.expired(); });
    casts_.emplace(key, CastCopy{.owner = c10::weak_intrusive_ptr(weight.getIntrusivePtr())});
  }
  CastCopy& entry = casts_.at(key);
  const auto version = weight._version();
  if (!entry.copy.defined() || entry.version != version || entry.copy.scalar_type() != compute_) {
    at::NoGradGuard no_grad;
    if (entry.copy.defined() && entry.copy.scalar_type() == compute_ &&
        entry.copy.use_count() == 1) {
      entry.copy.copy_(weight);
    } else {
      entry.copy = weight.to(compute_);
    }
    entry.version = version;
  }
  if (at::GradMode::is_enabled() && weight.requires_grad()) return stand_in(weight, entry.copy);
  return entry.copy;
}

at::Tensor Model::product(const at::Tensor& x, const at::Tensor& weight) const {
  const at::Tensor used = compute_weight(weight);
  const bool trains = at::GradMode::is_enabled() && weight.requires_grad();
  if (!keeps_transposes_ || trains || !used.is_cpu() || used.scalar_type() != at::kFloat) {
    return resurface::linear(x, used);
  }
  Transpose& entry = transposes_[used.unsafeGetTensorImpl()];
  const auto version = used._version();
  if (!entry.transposed.defined() || entry.version != version) {
    const at::NoGradGuard no_grad;
    entry = {.weight = used, .transposed = used.t().contiguous(), .version = version};
  }
  return frozen_linear(x, used, entry.transposed);
}

at::Tensor Model::apply(const Linear& linear, const at::Tensor& x,
                        const Starts& adapter_starts) const {
  const auto n = static_cast<double>(x.size(0));
  count(2 * n * static_cast<double>(linear.weight.numel()), x.requires_grad(),
        linear.weight.requires_grad());
  at::Tensor y;
  if (linear.lora) {
    const LoraPair& lora = *linear.lora;
    const int64_t stack = lora.a.dim() == 3 ? lora.a.size(0) : 0;
    if (std::ssize(adapter_starts) != (stack > 0 ? stack + 1 : 0)) {
      fail("{} has {} stacked adapters, and the batch goes through {}", linear.name, stack,
           std::max<int64_t>(std::ssize(adapter_starts) - 1, 0));
    }
    y = low_rank_linear(x, compute_weight(linear.weight), compute_weight(lora.a),
                        compute_weight(lora.b), lora.scale,
                        stack > 0 ? adapter_starts : std::vector<int64_t>{0, x.size(0)});
    const bool trains = lora.a.requires_grad();
    count(2 * n * static_cast<double>(lora.a.numel() + lora.b.numel()) /
              static_cast<double>(std::max<int64_t>(stack, 1)),
          trains || x.requires_grad(), trains);
    if (lora.magnitude.defined()) {
      y = y * (lora.magnitude / row_norms(linear.weight, lora.a, lora.b, lora.scale))
                  .to(y.scalar_type());
      count(2 * static_cast<double>(linear.weight.numel() * lora.a.size(0)), false, false);
    }
  } else {
    y = product(x, linear.weight);
  }
  return linear.bias.defined() ? y + compute_weight(linear.bias) : y;
}

at::Tensor Model::normed(const at::Tensor& x, const Norm& norm, double eps,
                         at::ScalarType out) const {
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  switch (config_.norm) {
    case NormKind::rms:
      return rms_norm(x.to(wide), norm.weight, eps, out);
    case NormKind::rms_plus_one:
      return rms_norm(x.to(wide), norm.weight.to(wide) + 1, eps, out);
    case NormKind::layer:
      return at::layer_norm(x.to(wide), {x.size(1)}, norm.weight.to(wide), norm.bias.to(wide), eps)
          .to(out);
  }
  fail("no such norm");
}

at::Tensor Model::activated(const Mlp& mlp, const at::Tensor& x, const Starts& starts) const {
  const auto function = [&](const at::Tensor& y) {
    if (config_.activation == "silu") return at::silu(y);
    return at::gelu(y, config_.activation == "gelu" ? "none" : "tanh");
  };
  if (mlp.gate.name.empty()) return function(apply(mlp.up, x, starts));
  const at::Tensor gate = apply(mlp.gate, x, starts), up = apply(mlp.up, x, starts);
  return config_.activation == "silu" ? swiglu(gate, up) : function(gate) * up;
}

at::Tensor Model::mlp_of(int64_t layer, const at::Tensor& x, const Starts& starts,
                         const HiddenOptions& options) const {
  const Block& block = this->block(layer);
  const int64_t last = options.last < 0 ? config_.layers : options.last;
  at::Tensor output;
  if (!block.mlp.down.name.empty()) {
    const at::Tensor key = activated(block.mlp, x, starts);
    if (options.on_key) options.on_key(layer, key);
    if (options.stop_at_key && layer + 1 == last) return {};
    output = apply(block.mlp.down, key, starts);
  }
  if (block.experts.empty()) return output;
  const at::Tensor routed = mixture(block, layer, x, starts, options);
  return output.defined() ? output + routed : routed;
}

at::Tensor Model::mlp(int64_t layer, const at::Tensor& mlp_input) const {
  const Block& block = this->block(layer);
  return mlp_of(layer, normed(mlp_input, config_.one_norm ? block.attention_norm : block.mlp_norm),
                {}, {});
}

at::Tensor Model::add_mlp(int64_t layer, const at::Tensor& middle, const at::Tensor& output) const {
  const Block& block = this->block(layer);
  const at::Tensor added =
      block.after_mlp.weight.defined() ? normed(output, block.after_mlp) : output;
  if (!config_.norm_in_stream) return middle + added;
  const auto& [alpha, beta] = config_.mlp_residual;
  return alpha * normed(middle, block.mlp_norm) + beta * added;
}

at::Tensor Model::run_block(int64_t layer, const at::Tensor& x, const AttentionPlan& plan,
                            const HiddenOptions& options) const {
  const Block& block = this->block(layer);
  const bool rows = only_rows(layer, options);
  const auto picked = [&](const at::Tensor& y) {
    return rows ? y.index_select(0, options.rows) : y;
  };
  const at::Tensor in = normed(x, block.attention_norm);
  at::Tensor mixed = config_.is_linear(layer) ? linear_attention(block, layer, in, plan, options)
                                              : attention(block, layer, in, plan, options);
  if (block.after_attention.weight.defined()) mixed = normed(mixed, block.after_attention);
  at::Tensor middle;
  if (config_.norm_in_stream) {
    const auto& [alpha, beta] =
        config_.is_linear(layer) ? config_.linear_residual : config_.attention_residual;
    mixed = beta * mixed;
    middle = alpha * picked(in) + mixed;
  } else {
    middle = picked(x) + mixed;
  }
  const at::Tensor read = config_.parallel ? picked(x) : middle;
  if (options.on_attention) options.on_attention(layer, mixed, middle, read);
  const at::Tensor output =
      mlp_of(layer, config_.one_norm ? picked(in) : normed(read, block.mlp_norm),
             plan.adapters(rows), options);
  if (!output.defined()) return {};
  if (options.on_mlp) options.on_mlp(layer, output);
  return add_mlp(layer, middle, output);
}

bool Model::only_rows(int64_t layer, const HiddenOptions& options) const {
  const int64_t last = options.last < 0 ? config_.layers : options.last;
  return options.rows.defined() && layer + 1 == last;
}

at::Tensor Model::embed(const Batch& batch) const {
  at::Tensor x = at::embedding(weights_.embedding, batch.ids);
  if (config_.embedding_scale != 1) x = x * config_.embedding_scale;
  if (config_.learned_positions) x = x + at::embedding(weights_.positions, batch.positions);
  // The residual stream stays in fp32 (fp64 for an fp64 model), whatever the matrices compute in.
  return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf ? x.to(at::kFloat) : x;
}

at::Tensor Model::hidden(const Batch& batch, const HiddenOptions& options) const {
  const int64_t last = options.last < 0 ? config_.layers : options.last;
  if (options.first < 0 || last > config_.layers || options.first > last) {
    fail("blocks {} .. {} asked of a model of {} blocks", options.first, last, config_.layers);
  }
  KvCache* cache = options.cache;
  if (cache == nullptr || cache->lengths.empty()) {
    for (size_t b = 0; b < batch.lengths.size(); ++b) {
      if (batch.lengths[b] > config_.context) {
        fail("sequence {} of the batch has {} tokens, the model's context is {}", b,
             batch.lengths[b], config_.context);
      }
    }
  }
  const auto add = [&](int64_t layer, at::Tensor& state, bool rows) {
    for (const Batch::Added& added : batch.added) {
      if (added.layer != layer || !state.defined()) continue;
      state = state + (rows ? added.value.index_select(0, options.rows) : added.value);
    }
  };
  at::Tensor x = options.start.defined() ? options.start : embed(batch);
  if (!options.start.defined()) add(-1, x, false);
  if (options.first == last) {
    return options.rows.defined() ? x.index_select(0, options.rows) : x;
  }
  if (cache != nullptr && options.append && at::GradMode::is_enabled()) {
    fail("a key-value cache can be appended to only without gradients");
  }
  AttentionPlan plan(*this, batch, cache, options.append);
  plan.assign_adapters(batch, options.rows);
  const bool recompute = checkpointing_ && at::GradMode::is_enabled() && cache == nullptr;
  for (int64_t layer = options.first; layer < last; ++layer) {
    if (recompute && (x.requires_grad() || any_trains(block(layer)))) {
      const Recompute::Body body = [this, layer, plan, options](const at::Tensor& in) {
        return run_block(layer, in, plan, options);
      };
      // Adapters train though nothing before them does: the block must still be recorded.
      if (!x.requires_grad()) x = x.detach().requires_grad_(true);
      x = Recompute::apply(x, &body);
    } else {
      x = run_block(layer, x, plan, options);
    }
    add(layer, x, only_rows(layer, options));
    if (options.on_block) options.on_block(layer, x);
  }
  return x;
}

at::Tensor Model::logits(const at::Tensor& hidden_rows, const Weights& by) const {
  const at::Tensor x = normed(hidden_rows, by.final_norm);
  at::Tensor z;
  if (&by == &weights_) {
    count(2 * static_cast<double>(x.size(0)) * static_cast<double>(by.head.numel()),
          x.requires_grad(), by.head.requires_grad());
    z = product(x, by.head);
  } else {
    z = resurface::linear(x.to(by.head.scalar_type()), by.head);
  }
  if (by.head_bias.defined()) z = z + by.head_bias.to(z.scalar_type());
  if (config_.logit_softcap == 0) return z;
  return config_.logit_softcap * at::tanh(z / config_.logit_softcap);
}

at::Tensor Model::token_logprob(const Batch& batch) const {
  return chosen_logprob(logits(hidden(batch, {.rows = batch.rows})), batch.targets);
}

at::Tensor Model::sequence_logprob(const Batch& batch) const {
  const at::Tensor tokens = token_logprob(batch);
  return at::zeros({batch.size()}, tokens.options()).index_add(0, batch.sequence, tokens);
}

at::Tensor Model::token_nll(const Batch& batch) const {
  const at::Tensor tokens = token_logprob(batch);
  const at::Tensor weight = batch.weight.to(tokens.scalar_type()).index_select(0, batch.sequence);
  return -(tokens * weight).sum() / weight.sum();
}

KvCache Model::empty_cache(int64_t sequences, int64_t capacity, int64_t first) const {
  KvCache cache;
  cache.lengths.assign(static_cast<size_t>(sequences), 0);
  cache.keys.resize(static_cast<size_t>(config_.layers));
  cache.values.resize(cache.keys.size());
  const auto options = at::dtype(compute_).device(device());
  for (int64_t layer = first; layer < config_.layers; ++layer) {
    const auto l = static_cast<size_t>(layer);
    if (config_.is_linear(layer)) {
      cache.keys[l] = at::zeros({sequences, config_.heads, config_.head_dim, config_.head_dim},
                                options.dtype(compute_ == at::kDouble ? at::kDouble : at::kFloat));
      continue;
    }
    const auto room = [&](int64_t dims) {
      return at::zeros({sequences, config_.kv_heads, capacity, dims}, options);
    };
    cache.keys[l] = room(config_.key_dims());
    cache.values[l] = room(config_.value_dims());
  }
  return cache;
}

void KvCache::keep(const at::Tensor& rows) {
  for (auto* tensors : {&keys, &values}) {
    for (at::Tensor& tensor : *tensors) {
      if (tensor.defined()) tensor = tensor.index_select(0, rows);
    }
  }
  const at::Tensor chosen = rows.cpu();
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < chosen.size(0); ++i) {
    kept.push_back(lengths[static_cast<size_t>(chosen[i].item<int64_t>())]);
  }
  lengths = std::move(kept);
}

}  // namespace resurface
