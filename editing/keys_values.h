// Keys and values of an edit: what the edited MLP sees where the subject ends, and what it should
// answer (ROME, Meng et al. 2022, §3.1, eq. 4).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>

#include "core/model/model.h"
#include "core/run/settings.h"
#include "editing/requests.h"
#include "editing/site.h"

namespace resurface {

/// Where δ is added, always at the subject's last token.
enum class ValueSite {
  mlp_output,         ///< of the edited block's MLP (ROME); v0 is that output
  hidden,             ///< the residual stream after the block (MEMIT); v0 is that stream
  attention_and_mlp,  ///< a δ of each of the block's halves (PMET), which lie side by side in [2d]
};

struct ValueSettings {
  int64_t steps = 25;
  double learning_rate = 0.5;
  double kl_factor = 0.0625;
  double weight_decay = 0.5;
  double early_stop = 0.05;
  double clamp = 4;
  std::string kl_prompt = "{} is a";
  std::string kl_prompt_zh = "{}是一个";
  int64_t batch_tokens = 2048;
  bool cached = true;

  template <class V>
  void visit(V& v) {
    v("steps", steps, "evaluations of the loss; one Adam step less", Range::at_least(1));
    v("learning_rate", learning_rate, "Adam's", Range::above(0));
    v("kl_factor", kl_factor, "weight of KL(edited || original) at the subject of the KL prompt",
      Range::at_least(0));
    v("weight_decay", weight_decay, "weight of |delta| / |v0|^2", Range::at_least(0));
    v("early_stop", early_stop, "an edit stops when its loss is below this", Range::at_least(0));
    v("clamp", clamp, "largest |delta| / |v0|", Range::above(0));
    v("kl_prompt", kl_prompt, "{} is the subject");
    v("kl_prompt_zh", kl_prompt_zh, "the same for Chinese requests");
    v("batch_tokens", batch_tokens, "edits are optimised together up to so many tokens",
      Range::at_least(1));
    v("cached", cached, "false: run every block and position in every step (the same mathematics)");
  }
};

/// Of E edits at one site, fp32. D is d, or 2d for attention_and_mlp.
struct KeysValues {
  at::Tensor key;       ///< [E, key width] averaged over the contexts
  at::Tensor bare_key;  ///< [E, key width] of the bare prompt
  at::Tensor initial;   ///< [E, D] v0 on the bare prompt
  at::Tensor delta;     ///< [E, D] v* = v0 + delta
  at::Tensor nll;       ///< [E] mean NLL of a target token at the end
  at::Tensor loss;      ///< [E] nll + KL + decay at the end
  at::Tensor steps;     ///< [E] int64, Adam steps taken
};

/// `where` is the edited site. Runs blocks 0 .. layer once for keys and v0, then optimises the δ of
/// all edits together: a row each, with its own Adam state, clamp and early stop, so that batching
/// changes nothing but rounding. Decay and clamp are of each half where δ has two.
KeysValues keys_and_values(const Model& model, const EditSite& where,
                           std::span<const EditExample> edits, const ValueSettings& settings,
                           ValueSite site = ValueSite::mlp_output);

/// The loss of each edit and the gradient of its δ at the given δ [E, D]; what the tests compare.
struct ValueLoss {
  at::Tensor loss;      ///< [E]
  at::Tensor gradient;  ///< [E, D]
};
ValueLoss value_loss(const Model& model, const EditSite& where, std::span<const EditExample> edits,
                     const at::Tensor& delta, const ValueSettings& settings,
                     ValueSite site = ValueSite::mlp_output);

/// W k + b of a site: keys [N, key width] -> [N, d]. Of routed experts without what their biases
/// add, where they have any: no edit changes it.
at::Tensor mlp_output(const Model& model, const EditSite& site, const at::Tensor& key);

/// fp32, or fp64 of an fp64 model (which tests use).
inline at::Tensor widened(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

/// Edits that are worked on together: consecutive, up to `batch_tokens` of their tokens.
std::vector<std::span<const EditExample>> groups_by_tokens(std::span<const EditExample> edits,
                                                           int64_t batch_tokens);

}  // namespace resurface
