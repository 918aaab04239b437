// FT-L (Zhu et al. 2020, Modifying Memories in Transformer Models; the baseline of Meng et al.
// 2022) and FT-M (Zhang et al. 2024, A Comprehensive Study of Knowledge Editing): one down
// projection is trained by Adam on the requests, each weight kept within `clamp` of its start.
//
//   FT-L: loss = -mean_t log p(y_t | x)         every target token at the prompt's last position
//   FT-M: loss = -mean_t log p(y_t | x, y_<t)   the target as it would be answered
//
// The reference takes the requests in small batches, a step each; here a step sees the whole batch.
// Blocks up to the edited one run once: Δ is trained on their outputs, the model is not written.
#include "editing/adam.h"
#include "editing/editors.h"
#include "editing/fine_tune_part.h"

namespace resurface {
namespace {

EditFile tune(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              const EditSite& site, bool answered) {
  const Model::KeepTransposes transposes(model);
  std::vector<FineTunePart> parts;
  int64_t count = 0;
  for (const auto group : groups_by_tokens(edits, settings.batch_tokens)) {
    const at::NoGradGuard no_grad;
    parts.push_back(fine_tune_part(model, site, group, count, answered));
    count += std::ssize(group);
  }
  const auto weight = widened(edited_weight(model, site));
  auto delta = at::zeros_like(weight);
  Adam adam(delta);
  at::Tensor nll;
  int64_t step = 0;
  for (;; ++step) {
    nll = at::zeros({count}, weight.options());
    auto gradient = at::zeros_like(weight);
    auto leaf = delta.detach().requires_grad_(true);
    for (const FineTunePart& part : parts) {
      const at::AutoGradMode grad(step < settings.steps);
      const auto loss = target_nll(model, site.layer, part, leaf, count);
      nll += loss.detach();
      if (step < settings.steps) {
        gradient += torch::autograd::grad({loss.sum() / count}, {leaf}).at(0);
      }
    }
    if (step == settings.steps || nll.mean().item<double>() < settings.early_stop) break;
    const at::NoGradGuard no_grad;
    delta = delta - adam.step(gradient, settings.learning_rate);
    if (settings.clamp > 0) delta = delta.clamp(-settings.clamp, settings.clamp);
  }
  EditFile file;
  for (const auto& [name, change] : cut(model, site, delta)) {
    file.deltas.push_back(dense_delta(name, change));
  }
  for (int64_t e = 0; e < count; ++e) {
    file.measures.push_back({.id = edits[static_cast<size_t>(e)].id,
                             .layer = site.layer,
                             .relative_norm = (delta.norm() / weight.norm()).item<double>(),
                             .target_loss = nll[e].item<double>(),
                             .steps = step});
  }
  return file;
}

EditFile fine_tune(const FtSettings& settings, const Model& model,
                   std::span<const EditExample> edits, bool answered) {
  const int64_t layer = edited_layer(settings.layer, 0.66, model);
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    return tune(settings, current, batch, edited_site(current, layer, batch), answered);
  });
}

}  // namespace

const MethodPage ft_l_page = {
    .file = "editing/fine_tune.cpp",
    .formula =
        R"(\Delta^* = \arg\min_{\|\Delta\|_\infty \le \epsilon} \;
    {-\operatorname{mean}_{x,t}} \log p_{W + \Delta}(y_t \mid x))",
    .symbols = R"(x: a request's prompts
y_t: each token of its target, all scored where the prompt ends
\epsilon: `clamp`, the largest change of any weight)",
    .cost =
        "Blocks up to the edited one run once; each of `steps` Adam steps runs those above, "
        "forward and back to the edited block. The edit is of full rank.",
    .needs = needs_requests,
    .traps =
        "The whole target is taught at one position, as the baseline of the editing papers does "
        "it, so that longer answers come out as noise: FT-M is the fair baseline.",
};

EditFile ft_l(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics&) {
  return fine_tune(settings, model, edits, false);
}

const MethodPage ft_m_page = {
    .file = "editing/fine_tune.cpp",
    .formula =
        R"(\Delta^* = \arg\min_{\|\Delta\|_\infty \le \epsilon} \;
    {-\operatorname{mean}_{x,t}} \log p_{W + \Delta}(y_t \mid x, y_{<t}))",
    .symbols = R"(x: a request's prompts
y_t: each token of its target, after those before it
\epsilon: `clamp`, the largest change of any weight)",
    .cost =
        "Blocks up to the edited one run once; each of `steps` Adam steps runs those above, "
        "forward and back to the edited block. The edit is of full rank.",
    .needs = needs_requests,
    .traps =
        "The reference takes the requests in small batches, a step each; here a step sees the "
        "whole batch.",
};

EditFile ft_m(const FtSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics&) {
  return fine_tune(settings, model, edits, true);
}

}  // namespace resurface
