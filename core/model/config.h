// The typed settings of the one decoder. A family file (llama.cpp) fills them from config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace resurface {

/// Rotary position embedding and its scalings, as transformers' `rope_scaling` names them.
struct Rope {
  std::string type = "default";  ///< default | linear | llama3
  double theta = 10000;
  double factor = 1;                ///< linear, llama3
  double low_freq_factor = 1;       ///< llama3
  double high_freq_factor = 4;      ///< llama3
  int64_t original_context = 8192;  ///< llama3: original_max_position_embeddings

  /// Inverse frequencies, [head_dim / 2], in radians a position.
  std::vector<double> inverse_frequencies(int64_t head_dim) const;
};

struct ModelConfig {
  std::string family;  ///< "llama"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;        ///< d
  int64_t intermediate_size = 0;  ///< d_ff
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context = 0;  ///< max_position_embeddings
  double norm_eps = 1e-6;
  bool tied_head = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  Rope rope;

  /// Number of parameters (a tied head counts once).
  int64_t parameters() const;
};

/// Reads config.json (already parsed). `where` names the file in errors. An architecture or a
/// setting that the decoder does not implement is refused by name.
ModelConfig read_model_config(const nlohmann::json& config, const std::string& where);

/// The config.json of a model made here from nothing, as transformers reads it.
nlohmann::json write_model_config(const ModelConfig& config);

}  // namespace resurface
