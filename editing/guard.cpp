#include "editing/guard.h"

#include "core/run/error.h"

namespace resurface {

double perplexity(const Model& model, std::span<const Example> examples) {
  const at::NoGradGuard no_grad;
  double nll = 0, tokens = 0;
  for (const auto& indices : batches_by_tokens(examples, 2048)) {
    std::vector<const Example*> batch;
    for (const auto index : indices) batch.push_back(&examples[static_cast<size_t>(index)]);
    const auto logprob = model.token_logprob(
        pack(std::span<const Example* const>(batch.data(), batch.size()), model.device()));
    nll -= logprob.sum().item<double>();
    tokens += static_cast<double>(logprob.numel());
  }
  return std::exp(nll / tokens);
}

GuardReport guard_edit(Model& model, const EditFile& edit, std::span<const Example> neutral,
                       const GuardSettings& settings) {
  GuardReport report;
  std::vector<std::string> reasons;
  const auto check_norm = [&](const std::string& what, double norm) {
    // Written so that NaN is refused.
    if (!(norm <= settings.max_relative_norm)) {
      reasons.push_back(fmt::format("{}: |dW| / |W| is {:.3g}, at most {} allowed", what, norm,
                                    settings.max_relative_norm));
    }
  };
  for (const auto& measure : edit.measures) {
    if (!(std::abs(measure.key_alignment) >= settings.min_key_alignment)) {
      reasons.push_back(fmt::format(
          "request '{}': k'u is {:.3g}, an alignment of its keys of {:.3g}, at least {} needed",
          measure.id, measure.key_dot_u, measure.key_alignment, settings.min_key_alignment));
    }
    check_norm(fmt::format("request '{}'", measure.id), measure.relative_norm);
  }
  for (const auto& delta : edit.deltas) {
    // ‖LR‖² = sum of (LᵀL) ∘ (RRᵀ): no matrix of W's size is made.
    const auto left = delta.left.to(at::kDouble), right = delta.right.to(at::kDouble);
    const double squared = (left.t().mm(left) * right.mm(right.t())).sum().item<double>();
    const double norm =
        std::sqrt(std::max(squared, 0.0)) /
        model.parameter(delta.parameter).detach().to(at::kDouble).norm().item<double>();
    report.relative_norm = std::isnan(squared) ? squared : std::max(report.relative_norm, norm);
    check_norm(delta.parameter, std::isnan(squared) ? squared : norm);
  }
  if (!neutral.empty()) {
    report.perplexity_before = perplexity(model, neutral);
    const auto originals = apply_edit(model, edit, true);
    try {
      report.perplexity_after = perplexity(model, neutral);
    } catch (...) {
      undo_edit(model, originals);
      throw;
    }
    undo_edit(model, originals);
    const double ratio = report.perplexity_after / report.perplexity_before;
    if (!(ratio <= settings.max_perplexity_ratio)) {
      reasons.push_back(fmt::format(
          "perplexity of neutral text goes from {:.4g} to {:.4g}, at most {} times allowed",
          report.perplexity_before, report.perplexity_after, settings.max_perplexity_ratio));
    }
  }
  if (!reasons.empty() && !settings.force) {
    fail("the guard refuses this edit, `force` keeps it: {}", fmt::join(reasons, "; "));
  }
  return report;
}

}  // namespace resurface
