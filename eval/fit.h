// How a model treats ordinary text: perplexity, and the distance from another model's
// distributions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "core/data/batch.h"
#include "core/model/model.h"

namespace resurface {

struct TextFit {
  double nll = 0;      ///< mean over tokens, nats
  double kl = 0;       ///< mean over positions of KL(reference || model), nats; NaN: no reference
  int64_t tokens = 0;  ///< positions measured

  double perplexity() const;
};
/// {"nll", "perplexity", "kl", "tokens"}; null where not measured.
void to_json(nlohmann::json& json, const TextFit& fit);
void from_json(const nlohmann::json& json, TextFit& fit);

/// A model's last hidden states over some texts: as long as nothing writes to its final norm and
/// head, these give its distributions again, without a second model or another pass.
struct FitReference {
  std::vector<at::Tensor> hidden;  ///< a batch each, [M, d]
  int64_t batch_tokens = 1024;
};
FitReference fit_reference(const Model& model, std::span<const Example> texts,
                           int64_t batch_tokens = 1024);

/// Over all tokens of prompt and answer but the first. KL is between the whole next-token
/// distributions, the reference's first: what a token drawn from the reference costs more (the
/// direction of evaluation in Meng et al. 2022 and of distillation). No gradient.
TextFit text_fit(const Model& model, std::span<const Example> texts,
                 const Model* reference = nullptr, int64_t batch_tokens = 1024);
/// The same against what `model` itself was when `reference` was taken over the same texts.
TextFit text_fit(const Model& model, std::span<const Example> texts, const FitReference& reference);

}  // namespace resurface
