#include "core/model/parameters.h"

namespace resurface {
namespace {

/// Names and visits the parameters of one block.
class BlockWalk {
 public:
  BlockWalk(const ModelConfig& config, int64_t layer, const VisitParameter& visit)
      : c_(config), layer_(layer), prefix_(fmt::format("model.layers.{}.", layer)), visit_(visit) {}

  void operator()(Block& block) const {
    const int64_t d = c_.hidden_size;
    norm("input_layernorm", block.attention_norm, d);
    if (c_.is_linear(layer_)) {
      linear_attention(block);
    } else if (c_.latent) {
      latent_attention(block);
    } else {
      attention(block);
    }
    if (c_.post_norms) norm("post_attention_layernorm", block.after_attention, d);
    if (!c_.one_norm) {
      norm(c_.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm", block.mlp_norm,
           d);
    }
    if (c_.has_experts(layer_)) {
      experts(block);
    } else {
      mlp("mlp.", block.mlp, c_.intermediate_size);
    }
    if (c_.post_norms) norm("post_feedforward_layernorm", block.after_mlp, d);
  }

 private:
  void put(const std::string& name, at::Tensor& slot, const std::vector<int64_t>& shape,
           bool trains = true) const {
    visit_(prefix_ + name, slot, shape, trains);
  }
  void norm(const std::string& name, Norm& slot, int64_t width) const {
    put(name + ".weight", slot.weight, {width});
    if (c_.norm == NormKind::layer) put(name + ".bias", slot.bias, {width});
  }
  void linear(const std::string& name, Linear& slot, int64_t out, int64_t in,
              bool bias = false) const {
    slot.name = prefix_ + name;
    put(name + ".weight", slot.weight, {out, in});
    if (bias) put(name + ".bias", slot.bias, {out});
  }

  void attention(Block& b) const {
    const int64_t d = c_.hidden_size, q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim;
    linear("self_attn.q_proj", b.q, q, d, c_.qkv_bias);
    linear("self_attn.k_proj", b.k, kv, d, c_.qkv_bias);
    linear("self_attn.v_proj", b.v, kv, d, c_.qkv_bias);
    linear("self_attn.o_proj", b.o, d, q, c_.output_bias);
    if (c_.query_key_norm == QueryKeyNorm::none) return;
    const bool all = c_.query_key_norm == QueryKeyNorm::all;
    norm("self_attn.q_norm", b.q_norm, all ? q : c_.head_dim);
    norm("self_attn.k_norm", b.k_norm, all ? kv : c_.head_dim);
  }
  void latent_attention(Block& b) const {
    const LatentAttention& l = *c_.latent;
    const int64_t d = c_.hidden_size, q = c_.heads * c_.key_dims();
    if (l.query_rank > 0) {
      linear("self_attn.q_a_proj", b.q_down, l.query_rank, d, l.bias);
      norm("self_attn.q_a_layernorm", b.q_norm, l.query_rank);
      linear("self_attn.q_b_proj", b.q, q, l.query_rank);
    } else {
      linear("self_attn.q_proj", b.q, q, d);
    }
    linear("self_attn.kv_a_proj_with_mqa", b.kv_down, l.key_value_rank + l.rope_dims, d, l.bias);
    norm("self_attn.kv_a_layernorm", b.k_norm, l.key_value_rank);
    linear("self_attn.kv_b_proj", b.kv, c_.heads * (l.plain_dims + l.value_dims), l.key_value_rank);
    linear("self_attn.o_proj", b.o, d, c_.heads * l.value_dims, c_.output_bias);
  }
  void linear_attention(Block& b) const {
    const int64_t d = c_.hidden_size, width = c_.heads * c_.head_dim;
    linear("self_attn.q_proj", b.q, width, d);
    linear("self_attn.k_proj", b.k, width, d);
    linear("self_attn.v_proj", b.v, width, d);
    linear("self_attn.o_proj", b.o, d, width);
    norm("self_attn.norm", b.output_norm, width);
    linear("self_attn.output_gate", b.output_gate, width, d);
  }

  void mlp(const std::string& name, Mlp& slot, int64_t width) const {
    const int64_t d = c_.hidden_size;
    if (c_.gated) linear(name + "gate_proj", slot.gate, width, d, c_.mlp_bias);
    linear(name + "up_proj", slot.up, width, d, c_.mlp_bias);
    linear(name + "down_proj", slot.down, d, width, c_.mlp_bias);
  }
  void experts(Block& b) const {
    const Experts& e = *c_.experts;
    linear("mlp.gate", b.router, e.count, c_.hidden_size);
    if (e.bias) put("mlp.gate.e_score_correction_bias", b.router_bias, {e.count}, false);
    if (e.scaled) put("mlp.router_scale", b.router_scale, {1, e.count});
    b.experts.resize(static_cast<size_t>(e.count));
    for (size_t i = 0; i < b.experts.size(); ++i) {
      mlp(fmt::format("mlp.experts.{}.", i), b.experts[i], e.width);
    }
    if (e.shared > 0) mlp("mlp.shared_experts.", b.mlp, e.shared);
  }

  const ModelConfig& c_;
  int64_t layer_;
  std::string prefix_;
  const VisitParameter& visit_;
};

/// Parameters of a config, each with the share of them that a token uses.
void each_size(const ModelConfig& config,
               const std::function<void(int64_t numel, double used)>& visit) {
  Weights weights;
  weights.blocks.resize(static_cast<size_t>(config.layers));
  const double routed = config.experts ? static_cast<double>(config.experts->per_token) /
                                             static_cast<double>(config.experts->count)
                                       : 1;
  each_parameter(
      config, weights,
      [&](const std::string& name, at::Tensor&, const std::vector<int64_t>& shape, bool) {
        const bool expert = name.find(".mlp.experts.") != std::string::npos;
        visit(c10::multiply_integers(shape), expert ? routed : 1);
      });
}

}  // namespace

void each_parameter(const ModelConfig& c, Weights& weights, const VisitParameter& visit) {
  const int64_t d = c.hidden_size;
  visit("model.embed_tokens.weight", weights.embedding, {c.vocab_size, d}, true);
  if (c.learned_positions) {
    visit("model.embed_positions.weight", weights.positions, {c.context, d}, true);
  }
  for (size_t l = 0; l < weights.blocks.size(); ++l) {
    BlockWalk(c, static_cast<int64_t>(l), visit)(weights.blocks[l]);
  }
  visit("model.norm.weight", weights.final_norm.weight, {d}, true);
  if (c.norm == NormKind::layer) visit("model.norm.bias", weights.final_norm.bias, {d}, true);
  if (!c.tied_head) visit("lm_head.weight", weights.head, {c.vocab_size, d}, true);
  if (c.head_bias) visit("lm_head.bias", weights.head_bias, {c.vocab_size}, true);
}

std::vector<std::string> ModelConfig::down_projections(int64_t layer) const {
  const std::string in = fmt::format("model.layers.{}.mlp.", layer);
  if (!has_experts(layer)) return {in + "down_proj.weight"};
  std::vector<std::string> names;
  if (experts->shared > 0) names.push_back(in + "shared_experts.down_proj.weight");
  for (int64_t e = 0; e < experts->count; ++e) {
    names.push_back(fmt::format("{}experts.{}.down_proj.weight", in, e));
  }
  return names;
}

int64_t ModelConfig::parameters() const {
  int64_t sum = 0;
  each_size(*this, [&](int64_t numel, double) { sum += numel; });
  return sum;
}

int64_t ModelConfig::active_parameters() const {
  double sum = 0;
  each_size(*this, [&](int64_t numel, double used) { sum += static_cast<double>(numel) * used; });
  return std::llround(sum);
}

std::vector<Linear*> Block::linears() {
  std::vector<Linear*> all;
  const auto add = [&](Linear& linear) {
    if (!linear.name.empty()) all.push_back(&linear);
  };
  for (Linear* linear : {&q_down, &q, &k, &v, &kv_down, &kv, &output_gate, &o}) add(*linear);
  for (Linear* linear : {&mlp.gate, &mlp.up, &mlp.down}) add(*linear);
  for (Mlp& expert : experts) {
    for (Linear* linear : {&expert.gate, &expert.up, &expert.down}) add(*linear);
  }
  return all;
}

}  // namespace resurface
