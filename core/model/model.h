// One decoder made from a typed config.
//
// Conventions: hidden states are packed, [N, d] over the real tokens of a batch. Block l reads the
// residual stream before it and writes the one after it; `hidden(batch, {.first = a, .last = b})`
// runs blocks a .. b-1 and can be resumed at any block by passing `start`.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/batch.h"
#include "core/model/place.h"

namespace resurface {

class Checkpoint;

/// A low-rank addition to a linear layer, y += scale · (x Aᵀ) Bᵀ (LoRA, Hu et al. 2021, eq. 3), or
/// a stack of G: Batch::adapter_starts then says which rows go through which.
struct LoraPair {
  at::Tensor a;  ///< [r, in], stacked [G, r, in]
  at::Tensor b;  ///< [out, r], stacked [G, out, r]
  double scale = 1;
  /// [out], not stacked: the layer's rows are brought to these lengths, y = m / |W + scale · B A| ·
  /// (x (W + scale · B A)ᵀ) with the lengths held constant in the backward pass (DoRA, Liu et al.
  /// 2024, eq. 5 and section 4.3). Undefined: plain LoRA.
  at::Tensor magnitude = {};

  /// What trains, by its name behind the layer's.
  std::vector<std::pair<const char*, at::Tensor>> parts() const {
    std::vector<std::pair<const char*, at::Tensor>> all = {{".lora_A", a}, {".lora_B", b}};
    if (magnitude.defined()) all.emplace_back(".lora_magnitude", magnitude);
    return all;
  }
};

/// A linear layer y = x Wᵀ + bias, in its HF name and orientation.
struct Linear {
  std::string name;   ///< "model.layers.3.mlp.down_proj" (without ".weight")
  at::Tensor weight;  ///< [out, in]
  at::Tensor bias;    ///< [out] or undefined
  std::optional<LoraPair> lora;
};

/// Weight [width] of a norm, and its bias where it has one; undefined where there is no such norm.
struct Norm {
  at::Tensor weight, bias;
};

/// down(f(gate(x)) · up(x)), or down(f(up(x))) where `gate` has no name.
struct Mlp {
  Linear gate, up, down;
};

/// What a block holds; a linear layer without a name and an undefined tensor are not there.
struct Block {
  Norm attention_norm, after_attention;  ///< [d]
  Norm mlp_norm, after_mlp;              ///< [d]

  Linear q, k, v, o;
  Norm q_norm, k_norm;         ///< of queries and keys; in latent attention of what they come from
  Linear q_down, kv_down, kv;  ///< latent attention: q_a_proj, kv_a_proj_with_mqa, kv_b_proj
  Linear output_gate;          ///< linear attention
  Norm output_norm;

  Mlp mlp;                   ///< what every token goes through: the dense MLP or the shared expert
  Linear router;             ///< [experts, d]
  at::Tensor router_bias;    ///< [experts], of the choice alone
  at::Tensor router_scale;   ///< [1, experts], of the chosen scores
  std::vector<Mlp> experts;  ///< routed

  /// Those that are there, in order, but for the router.
  std::vector<Linear*> linears();
};

/// Everything that a model computes with.
struct Weights {
  at::Tensor embedding;  ///< [vocab, d]
  at::Tensor positions;  ///< [context, d], where positions are learned
  std::vector<Block> blocks;
  Norm final_norm;
  at::Tensor head;       ///< [vocab, d]; the embedding itself when tied
  at::Tensor head_bias;  ///< [vocab]
};

/// Keys and values of the positions already seen, one pair a layer: [B, kv_heads, capacity,
/// key_dims] and [..., value_dims], sequence b's at positions 0 .. lengths[b]-1 (rotated). A layer
/// with linear attention keeps its state [B, heads, head_dim, head_dim] in place of the keys.
struct KvCache {
  std::vector<at::Tensor> keys, values;  ///< [layers]; undefined for a layer that is not cached
  std::vector<int64_t> lengths;          ///< [B]

  /// Keeps some of the sequences, in the order of `rows`.
  void keep(const at::Tensor& rows);
};

/// Counted by the model from its own shapes: 2·N·in·out for a linear layer, 4·T²·d-type terms for
/// attention. `backward` is what a backward pass over the recorded graph will cost.
struct Flops {
  double forward = 0;
  double backward = 0;
  double total() const { return forward + backward; }
};

struct HiddenOptions {
  int64_t first = 0;  ///< first block to run
  int64_t last = -1;  ///< one past the last block to run; -1: all
  at::Tensor start;   ///< [N, d] residual stream before block `first`; undefined: the embeddings

  /// Rows of [N, d] whose state after the last block is wanted, [R] int64; undefined: all. The last
  /// block then runs its output projection and MLP on these rows alone, and [R, d] is returned.
  at::Tensor rows;

  /// Positions already seen. The batch's tokens follow them (batch.positions must start at
  /// cache->lengths[b]). With `append` their keys and values are written behind (no gradient);
  /// without it the cache is a constant prefix and gradients flow through the new positions only.
  KvCache* cache = nullptr;
  bool append = false;

  /// Stop the last block once its key (the down-projection's input) has been reported: no output is
  /// computed and an undefined tensor is returned.
  bool stop_at_key = false;

  /// For layers of routed experts alone: the experts, any of them, whose activations times the
  /// weight that a token gives them, zero where it did not choose them, lie side by side in this
  /// order as the layer's key. A layer that is not here reports none; others need no mention.
  std::map<int64_t, std::vector<int64_t>> key_experts;

  /// Called with each block's rotated queries [N, heads · head_dim] and keys [N, kv_heads ·
  /// head_dim], which without gradients it may change in place. Softmax attention alone.
  std::function<void(int64_t layer, const at::Tensor& q, const at::Tensor& k)> on_query_key;
  /// Called with what each block's attention adds to the residual stream, the stream between
  /// attention and MLP, and the one that the MLP reads (the same, but where both halves of a block
  /// read what came into it), all [N, d].
  std::function<void(int64_t layer, const at::Tensor& attention, const at::Tensor& middle,
                     const at::Tensor& mlp_input)>
      on_attention;
  /// Called with each block's down-projection input [N, d_ff] (the `key` of an edit) as it is
  /// computed: of the dense MLP or of the shared expert; of routed experts alone, see key_experts,
  /// [N, experts · width].
  std::function<void(int64_t layer, const at::Tensor& key)> on_key;
  /// Called with the experts that each token chose, [N, experts a token] int64.
  std::function<void(int64_t layer, const at::Tensor& chosen)> on_experts;
  /// Called with what each block's MLP gives, [N, d], before a norm that may stand behind it.
  std::function<void(int64_t layer, const at::Tensor& output)> on_mlp;
  /// Called with each block's output, [N, d].
  std::function<void(int64_t layer, const at::Tensor& hidden)> on_block;
};

class Model {
 public:
  Model(Model&&) = default;
  Model& operator=(Model&&) = default;

  /// Opens an HF folder. dtype: the type weights are kept in (fp32 masters unless asked otherwise).
  static Model load(const std::filesystem::path& folder, at::Device device = at::kCPU,
                    at::ScalarType dtype = at::kFloat);
  /// A fresh model: normal(0, 0.02) matrices, unit norms; the same seed gives the same model.
  static Model random(const ModelConfig& config, uint64_t seed, at::Device device = at::kCPU,
                      at::ScalarType dtype = at::kFloat);

  /// Draws every weight anew in place, as random() does.
  void reset(uint64_t seed);

  const ModelConfig& config() const { return config_; }
  at::Device device() const { return weights_.embedding.device(); }
  int64_t layers() const { return config_.layers; }

  /// Every parameter, in file order, in the decoder's name: that of a Llama checkpoint, whatever
  /// the family (families.h says where it lies in a file). Writing into the tensor changes the
  /// model.
  const std::vector<std::pair<std::string, at::Tensor>>& parameters() const { return parameters_; }
  /// Where it lies in the checkpoint that the model came from.
  Place place(const std::string& parameter) const;
  /// Throws Error naming the nearest parameter when there is none of this name.
  at::Tensor parameter(const std::string& name) const;
  /// All linear layers of the blocks, in order: neither the head nor routers.
  std::vector<Linear*> linears();
  /// With the routers: some adapters that others made reach them.
  std::vector<Linear*> linears_and_routers();
  /// How many adapters are stacked on the linear layers; 0: none, or one that is not in a stack.
  int64_t stacked_adapters() const;
  Block& block(int64_t layer) { return weights_.blocks.at(static_cast<size_t>(layer)); }
  const Block& block(int64_t layer) const { return weights_.blocks.at(static_cast<size_t>(layer)); }
  const Weights& weights() const { return weights_; }

  // --- the forward pass
  // -----------------------------------------------------------------------------
  at::Tensor embed(const Batch& batch) const;  ///< [N, d]
  /// The residual stream after the last block asked for, [N, d], before the final norm.
  at::Tensor hidden(const Batch& batch, const HiddenOptions& options = {}) const;
  /// What a block's MLP gives for the stream that it reads, before a norm that may stand behind it:
  /// [N, d] -> [N, d].
  at::Tensor mlp(int64_t layer, const at::Tensor& mlp_input) const;
  /// The residual stream after a block: the one between attention and MLP, and what the MLP gave.
  at::Tensor add_mlp(int64_t layer, const at::Tensor& middle, const at::Tensor& output) const;
  /// A cache for `sequences` of up to `capacity` positions, of the blocks from `first` on.
  KvCache empty_cache(int64_t sequences, int64_t capacity, int64_t first = 0) const;
  /// Final norm and head, only for the rows given: [M, d] -> [M, vocab], in the compute dtype.
  at::Tensor logits(const at::Tensor& hidden_rows) const { return logits(hidden_rows, weights_); }
  /// The same with another's final norm and head, in their dtype; nothing is counted.
  at::Tensor logits(const at::Tensor& hidden_rows, const Weights& other) const;

  /// log p(target) of each scored token, [M] float.
  at::Tensor token_logprob(const Batch& batch) const;
  /// Sum over each sequence's scored tokens, [B] float.
  at::Tensor sequence_logprob(const Batch& batch) const;
  /// Token-mean NLL over all scored tokens (weighted by example weights), scalar float.
  at::Tensor token_nll(const Batch& batch) const;

  // --- switches
  // ---------------------------------------------------------------------------------------
  /// bf16: matrices and activations in bf16, norms' statistics, softmax and losses in fp32; the
  /// parameters keep their own dtype (fp32 masters).
  void set_compute(at::ScalarType dtype) { compute_ = dtype; }
  at::ScalarType compute() const { return compute_; }
  /// Recompute each block in the backward pass instead of keeping its activations.
  void set_checkpointing(bool on) { checkpointing_ = on; }
  /// Mark all parameters trainable or not.
  void require_grad(bool on);

  /// FLOPs of everything run since the last reset.
  Flops flops() const { return flops_; }
  void reset_flops() { flops_ = {}; }

  /// Copies all parameters from another model of the same config.
  void copy_from(const Model& other);
  Model clone() const;

  /// Hash of all weights (names, shapes, bytes), hex.
  std::string content_hash() const;

  /// Writes an HF folder. Files of `source` other than weights come along; tensors that equal those
  /// of `source` bit for bit keep its bytes and dtype. Without a source: Llama models alone.
  void save(const std::filesystem::path& folder, const std::filesystem::path& source = {}) const;

  /// While it lives, products with fp32 weights that do not train use transposed copies of them
  /// (frozen_linear): as much memory again, for callers that run few rows through the same weights
  /// many times. One at a time.
  class KeepTransposes {
   public:
    explicit KeepTransposes(const Model& model) : model_(model) { model.keeps_transposes_ = true; }
    KeepTransposes(const KeepTransposes&) = delete;
    KeepTransposes& operator=(const KeepTransposes&) = delete;
    ~KeepTransposes() {
      model_.keeps_transposes_ = false;
      model_.transposes_.clear();
    }

   private:
    const Model& model_;
  };

 private:
  struct AttentionPlan;
  struct QueryKeyValue {
    at::Tensor q, k, v;  ///< [N, heads · key_dims], [N, kv_heads · key_dims], [.. value_dims]
  };
  /// Which rows each of the stacked adapters gets; empty without a stack.
  using Starts = std::vector<int64_t>;

  explicit Model(ModelConfig config);
  void register_parameters();
  at::Tensor compute_weight(const at::Tensor& weight) const;
  at::Tensor product(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor apply(const Linear& linear, const at::Tensor& x, const Starts& starts) const;
  at::Tensor normed(const at::Tensor& x, const Norm& norm) const {
    return normed(x, norm, config_.norm_eps, compute_);
  }
  at::Tensor normed(const at::Tensor& x, const Norm& norm, double eps, at::ScalarType out) const;
  at::Tensor activated(const Mlp& mlp, const at::Tensor& x, const Starts& starts) const;

  at::Tensor attention(const Block& block, int64_t layer, const at::Tensor& x,
                       const AttentionPlan& plan, const HiddenOptions& options) const;
  QueryKeyValue project(const Block& block, int64_t layer, const at::Tensor& x,
                        const AttentionPlan& plan) const;
  QueryKeyValue project_latent(const Block& block, const at::Tensor& x,
                               const AttentionPlan& plan) const;
  at::Tensor padded_attention(const QueryKeyValue& qkv, int64_t layer, const at::Tensor& past_keys,
                              const at::Tensor& past_values, const AttentionPlan& plan,
                              bool append) const;
  at::Tensor linear_attention(const Block& block, int64_t layer, const at::Tensor& x,
                              const AttentionPlan& plan, const HiddenOptions& options) const;

  /// The chosen experts [N, k] and their weights [N, k] float.
  std::pair<at::Tensor, at::Tensor> route(const Block& block, const at::Tensor& x) const;
  at::Tensor mixture(const Block& block, int64_t layer, const at::Tensor& x, const Starts& starts,
                     const HiddenOptions& options) const;
  at::Tensor mlp_of(int64_t layer, const at::Tensor& normed, const Starts& starts,
                    const HiddenOptions& options) const;
  at::Tensor run_block(int64_t layer, const at::Tensor& x, const AttentionPlan& plan,
                       const HiddenOptions& options) const;
  bool only_rows(int64_t layer, const HiddenOptions& options) const;
  void count(double flops, bool input_grad, bool weight_grad) const;

  ModelConfig config_;
  Weights weights_;
  /// Inverse frequencies of a rotary embedding, [dims / 2] double; of longrope also those of
  /// sequences beyond its original context.
  struct Turn {
    Rope rope;
    at::Tensor frequencies, long_frequencies;
  };
  std::optional<Turn> turn_, local_turn_;
  bool bare_ = false;  // the checkpoint's names lack their first word
  std::vector<std::pair<std::string, at::Tensor>> parameters_;
  /// With those that no gradient reaches.
  std::vector<std::pair<std::string, at::Tensor>> tensors_;
  at::ScalarType compute_ = at::kFloat;
  bool checkpointing_ = false;
  mutable Flops flops_;

  // Low-precision copies of the weights, valid while the weight's version counter stands still.
  struct CastCopy {
    /// While this is held no other tensor gets the weight's address, which is the key.
    c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> owner;
    uint32_t version = 0;
    at::Tensor copy = {};
  };
  mutable std::unordered_map<const void*, CastCopy> casts_;
  /// Of weights that do not train, by weight; while somebody keeps them.
  struct Transpose {
    at::Tensor weight, transposed;
    int64_t version = -1;
  };
  mutable std::unordered_map<const void*, Transpose> transposes_;
  mutable bool keeps_transposes_ = false;
};

}  // namespace resurface
