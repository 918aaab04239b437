#include "core/model/model.h"

#include <ATen/CPUGeneratorImpl.h>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/tensor_hash.h"
#include "core/model/attention.h"
#include "core/run/error.h"
#include "core/run/nearest.h"
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
  if (of(block.attention_norm) || of(block.mlp_norm)) return true;
  for (const Linear* linear :
       {&block.q, &block.k, &block.v, &block.o, &block.gate, &block.up, &block.down}) {
    if (of(linear->weight) || of(linear->bias)) return true;
    if (linear->lora && (of(linear->lora->a) || of(linear->lora->b))) return true;
  }
  return false;
}

}  // namespace

Model::Model(ModelConfig config) : config_(std::move(config)) {
  const auto frequencies = config_.rope.inverse_frequencies(config_.head_dim);
  const at::Tensor f = at::tensor(at::ArrayRef<double>(frequencies), at::kDouble);
  const at::Tensor angle = at::arange(config_.context, at::kDouble).unsqueeze(1) * f;
  rope_cos_ = angle.cos().to(at::kFloat);
  rope_sin_ = angle.sin().to(at::kFloat);
}

// Walks every parameter in file order: visit(HF name, slot, shape).
template <class Visit>
static void each_parameter(const ModelConfig& c, at::Tensor& embedding, std::vector<Block>& blocks,
                           at::Tensor& norm, at::Tensor& head, Visit&& visit) {
  const int64_t d = c.hidden_size, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  visit("model.embed_tokens.weight", embedding, std::vector<int64_t>{c.vocab_size, d});
  for (size_t l = 0; l < blocks.size(); ++l) {
    Block& block = blocks[l];
    const std::string prefix = fmt::format("model.layers.{}.", l);
    const auto linear = [&](Linear& slot, const char* name, int64_t out, int64_t in, bool bias) {
      slot.name = prefix + name;
      visit(slot.name + ".weight", slot.weight, std::vector<int64_t>{out, in});
      if (bias) visit(slot.name + ".bias", slot.bias, std::vector<int64_t>{out});
    };
    visit(prefix + "input_layernorm.weight", block.attention_norm, std::vector<int64_t>{d});
    linear(block.q, "self_attn.q_proj", q, d, c.attention_bias);
    linear(block.k, "self_attn.k_proj", kv, d, c.attention_bias);
    linear(block.v, "self_attn.v_proj", kv, d, c.attention_bias);
    linear(block.o, "self_attn.o_proj", d, q, c.attention_bias);
    visit(prefix + "post_attention_layernorm.weight", block.mlp_norm, std::vector<int64_t>{d});
    linear(block.gate, "mlp.gate_proj", c.intermediate_size, d, c.mlp_bias);
    linear(block.up, "mlp.up_proj", c.intermediate_size, d, c.mlp_bias);
    linear(block.down, "mlp.down_proj", d, c.intermediate_size, c.mlp_bias);
  }
  visit("model.norm.weight", norm, std::vector<int64_t>{d});
  if (!c.tied_head) visit("lm_head.weight", head, std::vector<int64_t>{c.vocab_size, d});
}

void Model::register_parameters() {
  parameters_.clear();
  each_parameter(config_, embedding_, blocks_, final_norm_, head_,
                 [&](const std::string& name, at::Tensor& slot, const std::vector<int64_t>&) {
                   parameters_.emplace_back(name, slot);
                 });
  if (config_.tied_head) head_ = embedding_;
  rope_cos_ = rope_cos_.to(embedding_.device());
  rope_sin_ = rope_sin_.to(embedding_.device());
}

Model Model::load(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  Model model(read_model_config(checkpoint.config(), (folder / "config.json").string()));
  model.blocks_.resize(static_cast<size_t>(model.config_.layers));
  std::vector<std::string> known;
  each_parameter(model.config_, model.embedding_, model.blocks_, model.final_norm_, model.head_,
                 [&](const std::string& name, at::Tensor& slot, const std::vector<int64_t>& shape) {
                   const at::Tensor stored = checkpoint.tensor(name);
                   if (stored.sizes() != at::IntArrayRef(shape)) {
                     fail("{}: tensor '{}' has shape [{}], config.json makes it [{}]",
                          folder.string(), name, fmt::join(stored.sizes(), ", "),
                          fmt::join(shape, ", "));
                   }
                   // A copy: the mapped file is read-only and weights are written in training.
                   slot = at::empty(shape, at::TensorOptions().dtype(dtype).device(device));
                   slot.copy_(stored);
                   known.push_back(name);
                 });
  for (const TensorInfo& info : checkpoint.tensors()) {
    const bool ignored = info.name == "lm_head.weight" ||  // a tied head, stored a second time
                         info.name.ends_with("rotary_emb.inv_freq");
    if (!ignored && std::find(known.begin(), known.end(), info.name) == known.end()) {
      fail("{}: tensor '{}' belongs to no parameter of a {} model; the nearest is '{}'",
           folder.string(), info.name, model.config_.family, nearest(info.name, known));
    }
  }
  model.compute_ = dtype;
  model.register_parameters();
  return model;
}

Model Model::random(const ModelConfig& config, uint64_t seed, at::Device device,
                    at::ScalarType dtype) {
  Model model(config);
  model.blocks_.resize(static_cast<size_t>(config.layers));
  each_parameter(model.config_, model.embedding_, model.blocks_, model.final_norm_, model.head_,
                 [&](const std::string&, at::Tensor& slot, const std::vector<int64_t>& shape) {
                   slot = at::empty(shape, at::TensorOptions().dtype(dtype).device(device));
                 });
  model.compute_ = dtype;
  model.register_parameters();
  model.reset(seed);
  return model;
}

void Model::reset(uint64_t seed) {
  const at::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& [name, value] : parameters_) {
    if (name.ends_with(".bias")) {
      value.zero_();
    } else if (value.dim() == 1) {
      value.fill_(1);
    } else {
      value.copy_(at::empty(value.sizes(), at::kFloat).normal_(0, 0.02, generator));
    }
  }
}

at::Tensor Model::parameter(const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& [known, tensor] : parameters_) {
    if (known == name) return tensor;
    names.push_back(known);
  }
  fail("the model has no parameter '{}'; the nearest is '{}'", name, nearest(name, names));
}

std::vector<Linear*> Model::linears() {
  std::vector<Linear*> all;
  for (Block& b : blocks_) {
    for (Linear* linear : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down}) all.push_back(linear);
  }
  return all;
}

int64_t Model::stacked_adapters() const {
  if (blocks_.empty() || !blocks_[0].q.lora || blocks_[0].q.lora->a.dim() != 3) return 0;
  return blocks_[0].q.lora->a.size(0);
}

void Model::require_grad(bool on) {
  for (auto& [name, tensor] : parameters_) tensor.requires_grad_(on);
}

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
                        const std::vector<int64_t>& adapter_starts) const {
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

at::Tensor Model::mlp_key(const Block& block, const at::Tensor& middle,
                          const std::vector<int64_t>& adapter_starts) const {
  const at::Tensor normed = rms_norm(middle, block.mlp_norm, config_.norm_eps, compute_);
  return swiglu(apply(block.gate, normed, adapter_starts), apply(block.up, normed, adapter_starts));
}

at::Tensor Model::mlp(int64_t layer, const at::Tensor& middle) const {
  const Block& block = blocks_.at(static_cast<size_t>(layer));
  return apply(block.down, mlp_key(block, middle, {}), {});
}

at::Tensor Model::run_block(int64_t layer, const at::Tensor& x, const AttentionPlan& plan,
                            const HiddenOptions& options) const {
  const Block& block = blocks_[static_cast<size_t>(layer)];
  const at::Tensor mixed = attention(
      block, layer, rms_norm(x, block.attention_norm, config_.norm_eps, compute_), plan, options);
  const at::Tensor mid = (only_rows(layer, options) ? x.index_select(0, options.rows) : x) + mixed;
  if (options.on_attention) options.on_attention(layer, mixed, mid);
  const auto& adapters = plan.adapters(only_rows(layer, options));
  const at::Tensor key = mlp_key(block, mid, adapters);
  if (options.on_key) options.on_key(layer, key);
  const int64_t last = options.last < 0 ? config_.layers : options.last;
  if (options.stop_at_key && layer + 1 == last) return {};
  return mid + apply(block.down, key, adapters);
}

bool Model::only_rows(int64_t layer, const HiddenOptions& options) const {
  const int64_t last = options.last < 0 ? config_.layers : options.last;
  return options.rows.defined() && layer + 1 == last;
}

at::Tensor Model::embed(const Batch& batch) const {
  const at::Tensor x = at::embedding(embedding_, batch.ids);
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
  AttentionPlan plan(batch, config_, compute_, rope_cos_, rope_sin_, cache, options.append);
  plan.assign_adapters(batch, options.rows);
  const bool recompute = checkpointing_ && at::GradMode::is_enabled() && cache == nullptr;
  for (int64_t layer = options.first; layer < last; ++layer) {
    if (recompute && (x.requires_grad() || any_trains(blocks_[static_cast<size_t>(layer)]))) {
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

at::Tensor Model::logits(const at::Tensor& hidden_rows) const {
  const at::Tensor x = rms_norm(hidden_rows, final_norm_, config_.norm_eps, compute_);
  count(2 * static_cast<double>(x.size(0)) * static_cast<double>(head_.numel()), x.requires_grad(),
        head_.requires_grad());
  return product(x, head_);
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

void Model::copy_from(const Model& other) {
  at::NoGradGuard no_grad;
  if (other.parameters_.size() != parameters_.size())
    fail("copying between models of other shapes");
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].second.copy_(other.parameters_[i].second);
  }
}

Model Model::clone() const {
  at::NoGradGuard no_grad;
  Model copy(config_);
  copy.blocks_.resize(blocks_.size());
  size_t i = 0;
  each_parameter(copy.config_, copy.embedding_, copy.blocks_, copy.final_norm_, copy.head_,
                 [&](const std::string&, at::Tensor& slot, const std::vector<int64_t>&) {
                   slot = parameters_[i++].second.detach().clone();
                 });
  copy.compute_ = compute_;
  copy.checkpointing_ = checkpointing_;
  copy.register_parameters();
  return copy;
}

std::string Model::content_hash() const { return hash_tensors(parameters_); }

void Model::save(const std::filesystem::path& folder, const std::filesystem::path& source) const {
  at::NoGradGuard no_grad;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, tensor] : parameters_) {
    tensors.emplace_back(name, tensor.detach().cpu().contiguous());
  }
  if (source.empty()) {
    write_checkpoint(folder, write_model_config(config_), tensors);
    return;
  }
  const Checkpoint base = Checkpoint::open(source);
  std::map<std::string, at::Tensor> changed;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor stored = base.tensor(name);
    const at::Tensor cast = tensor.to(stored.scalar_type());
    if (!at::equal(cast, stored)) changed[name] = cast;
  }
  base.save_with(folder, changed);
}

}  // namespace resurface
