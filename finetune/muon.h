// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for the weight matrices of the
// blocks, and AdamW for all else (embeddings, norms, biases, head). With G the gradient, lambda the
// decay and eta the rate:
//   M <- mu M + (1 - mu) G;   U = mu M + (1 - mu) G (Nesterov) or M
//   W <- (1 - eta lambda) W - eta 0.2 sqrt(max(rows, cols)) O(U)
// O: Newton-Schulz steps X <- a X + (b X X' + c (X X')^2) X from X = U / |U|, which bring all
// singular values near 1. The scale gives the update the root mean square of AdamW's, so that
// AdamW's rate and decay carry over (Liu et al. 2025, "Muon is Scalable for LLM Training", 2.2).
// Where we differ: the authors iterate in bf16, here it is fp32.
#pragma once

#include "core/run/settings.h"
#include "finetune/adamw.h"

namespace resurface {

struct MuonSettings {
  double momentum = 0.95;
  bool nesterov = true;
  int64_t ns_steps = 5;
  double qk_clip = 100;
  template <class V>
  void visit(V& v) {
    v("momentum", momentum, "of the matrices' gradients", Range::between(0, 1));
    v("nesterov", nesterov, "look ahead by one step of momentum");
    v("ns_steps", ns_steps, "Newton-Schulz steps", Range::at_least(1));
    v("qk_clip", qk_clip, "muonclip's threshold tau on a head's largest attention logit",
      Range::above(0));
  }
};

class Muon : public AdamW {
 public:
  /// Blocks' matrices are known by their names, model.layers.*. `rest`: for all other parameters;
  /// its weight_decay holds for both.
  Muon(NamedTensors parameters, const MuonSettings& settings, const AdamWSettings& rest);

 protected:
  std::vector<std::pair<const char*, const Slot*>> slots() const override;
  void update(double learning_rate, double divisor) override;

 private:
  MuonSettings muon_;
  Slot momentum_;
};

/// O of the formula above: [m, n] to [m, n].
at::Tensor orthogonalize(const at::Tensor& update, int64_t steps);

}  // namespace resurface
