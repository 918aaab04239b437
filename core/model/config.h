// The typed settings of the one decoder. A family file (llama.cpp, gpt2.cpp, ...) fills them from
// config.json; the names here are the decoder's own, those of a checkpoint are in families.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace resurface {

/// Rotary position embedding and its scalings, as transformers' `rope_scaling` names them.
struct Rope {
  std::string type = "default";  ///< default | linear | llama3 | yarn | longrope
  double theta = 10000;
  int64_t dims = 0;                 ///< how much of a head turns, its first dims; 0: all of it
  bool interleaved = false;         ///< pairs (2i, 2i + 1); else (i, i + dims / 2)
  double factor = 1;                ///< linear, llama3, yarn
  double low_freq_factor = 1;       ///< llama3
  double high_freq_factor = 4;      ///< llama3
  int64_t original_context = 8192;  ///< llama3, yarn, longrope: original_max_position_embeddings
  double beta_fast = 32;            ///< yarn
  double beta_slow = 1;             ///< yarn
  bool truncate = true;             ///< yarn: the ramp begins and ends at whole dimensions
  std::vector<double> short_factor, long_factor;  ///< longrope, [dims / 2]
  double attention_factor = 1;                    ///< yarn, longrope: multiplies cosines and sines

  /// Inverse frequencies of `dims` dimensions, [dims / 2], in radians a position. `length`: of the
  /// sequence, which longrope looks at.
  std::vector<double> inverse_frequencies(int64_t dims, int64_t length = 0) const;
};

/// What yarn multiplies lengths of queries and keys by (arXiv 2309.00071, eq. 24): 0.1 · mscale ·
/// ln(factor) + 1.
double yarn_scale(double factor, double mscale);

enum class NormKind {
  rms,           ///< x / rms(x) · w
  rms_plus_one,  ///< x / rms(x) · (1 + w): Gemma
  layer,         ///< (x - mean) / deviation · w + b
};

/// Of queries and keys, before they turn.
enum class QueryKeyNorm {
  none,
  head,  ///< of each head, with one weight [head_dim]
  all,   ///< of all heads together, with a weight for each dimension
};

/// Attention whose keys and values come from one small vector a token (DeepSeek-V2, arXiv
/// 2405.04434, section 2.1).
struct LatentAttention {
  int64_t query_rank = 0;      ///< 0: queries straight from the stream
  int64_t key_value_rank = 0;  ///< of the vector that keys and values come from
  int64_t plain_dims = 0;      ///< of a head's query and key that do not turn: qk_nope_head_dim
  int64_t rope_dims = 0;       ///< those that do, behind them; a token's heads share the key's
  int64_t value_dims = 0;      ///< v_head_dim
  bool bias = false;           ///< of the projections down and of the output
};

/// Lightning attention (MiniMax-01, arXiv 2501.08313): softmax replaced by a decay a head.
struct LinearAttention {
  std::vector<bool> layers;  ///< [layers] which have it; the others have softmax attention
  int64_t block = 256;       ///< positions handled together
};

/// A mixture of experts in place of the MLP.
struct Experts {
  int64_t count = 0;          ///< routed experts a layer
  int64_t per_token = 0;      ///< of which a token uses so many
  int64_t width = 0;          ///< of each: moe_intermediate_size
  int64_t shared = 0;         ///< width of the expert that every token uses; 0: none
  std::vector<bool> layers;   ///< [layers] which have experts; the others have a dense MLP
  bool sigmoid = false;       ///< scores are sigmoids of the router's logits; else their softmax
  bool bias = false;          ///< a bias is added to the scores for the choice alone
  int64_t groups = 1;         ///< experts lie in so many groups ...
  int64_t groups_kept = 1;    ///< ... of which a token chooses within the best so many
  bool group_by_two = false;  ///< a group counts as much as its two best; else as its best
  bool one_a_group = false;   ///< a token uses the best expert of each group
  bool scaled = false;        ///< the chosen scores are multiplied by a learned factor an expert
  bool normalise = false;     ///< the chosen scores are made to sum to one
  double scale = 1;           ///< and then multiplied by this
};

/// y = alpha · x + beta · f(x): how a half of a block joins the stream.
struct Residual {
  double alpha = 1, beta = 1;
};

struct ModelConfig {
  std::string family;  ///< "llama", "gpt2", ...
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;        ///< d
  int64_t intermediate_size = 0;  ///< d_ff of a dense MLP
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context = 0;  ///< max_position_embeddings

  NormKind norm = NormKind::rms;
  double norm_eps = 1e-6;
  bool parallel = false;    ///< attention and MLP both read the stream before the block
  bool one_norm = false;    ///< with `parallel`: and read it through the same norm
  bool post_norms = false;  ///< what attention and MLP give goes through a norm of its own: Gemma
  bool norm_in_stream = false;  ///< what the norms give, not what they read, goes on: MiniMax
  Residual attention_residual, linear_residual, mlp_residual;  ///< MiniMax

  bool gated = true;                ///< down(f(gate(x)) · up(x)); else down(f(up(x)))
  std::string activation = "silu";  ///< f: silu | gelu | gelu_tanh
  std::optional<Experts> experts;

  bool learned_positions = false;  ///< an embedding a position: GPT-2
  std::optional<Rope> rope = Rope{};
  std::optional<Rope> local_rope;  ///< of layers with a window, where it is another: Gemma 3
  std::vector<int64_t> windows;    ///< [layers] positions a token sees, itself included; 0: all.
                                   ///< Empty: all of them everywhere
  double attention_scale = 0;      ///< of scores; 0: 1 / sqrt(head_dim)
  double attention_softcap = 0;    ///< c · tanh(score / c); 0: off
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  std::optional<LatentAttention> latent;
  std::optional<LinearAttention> linear;

  double embedding_scale = 1;
  double logit_softcap = 0;  ///< c · tanh(logit / c); 0: off
  bool tied_head = false;
  bool head_bias = false;
  bool qkv_bias = false;
  bool output_bias = false;  ///< of attention
  bool mlp_bias = false;

  int64_t window(int64_t layer) const {
    return windows.empty() ? 0 : windows.at(static_cast<size_t>(layer));
  }
  bool has_experts(int64_t layer) const {
    return experts && experts->layers.at(static_cast<size_t>(layer));
  }
  bool is_linear(int64_t layer) const {
    return linear && linear->layers.at(static_cast<size_t>(layer));
  }
  /// Of queries and keys as attention compares them, and of values.
  int64_t key_dims() const { return latent ? latent->plain_dims + latent->rope_dims : head_dim; }
  int64_t value_dims() const { return latent ? latent->value_dims : head_dim; }
  /// d_ff of what every token goes through in a layer: the dense MLP or the shared expert; 0: there
  /// are routed experts alone.
  int64_t key_width(int64_t layer) const {
    return experts && has_experts(layer) ? experts->shared : intermediate_size;
  }

  /// The matrices by which a layer's MLP writes into the residual stream: the down projection, or
  /// those of the shared and of all routed experts.
  std::vector<std::string> down_projections(int64_t layer) const;

  /// Number of parameters (a tied head counts once), and of those that a token uses.
  int64_t parameters() const;
  int64_t active_parameters() const;
};

/// Reads config.json (already parsed). `where` names the file in errors. An architecture or a
/// setting that the decoder does not implement is refused by name.
ModelConfig read_model_config(const nlohmann::json& config, const std::string& where);

/// The config.json of a model made here from nothing, as transformers reads it. Throws Error for
/// any family but Llama.
nlohmann::json write_model_config(const ModelConfig& config);

}  // namespace resurface
