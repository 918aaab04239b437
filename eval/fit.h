// How a model treats ordinary text: perplexity, and the distance from another model's
// distributions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>

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

/// Over all tokens of prompt and answer but the first. KL is between the whole next-token
/// distributions, the reference's first: what a token drawn from the reference costs more (the
/// direction of evaluation in Meng et al. 2022 and of distillation). No gradient.
TextFit text_fit(const Model& model, std::span<const Example> texts,
                 const Model* reference = nullptr, int64_t batch_tokens = 1024);

}  // namespace resurface
