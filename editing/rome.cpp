#include "editing/rome.h"

#include "core/run/diverged.h"
#include "editing/batches.h"
#include "editing/site.h"

namespace resurface {
namespace {

/// Each written on W as those before it left it; their values are of `model`.
EditFile rome_batch(const RomeSettings& settings, const Model& model,
                    std::span<const EditExample> edits, Statistics& statistics) {
  const EditSite site = edited_site(model, rome_layer(settings, model), edits);
  statistics.prepare({site});
  const auto row = [](const at::Tensor& rows, size_t e) {  // [1, n] -> fp64 on the host
    return rows[static_cast<int64_t>(e)].to(at::kCPU, at::kDouble);
  };
  const auto kv = keys_and_values(model, site, edits, settings.value);
  const auto weight = edited_weight(model, site).to(at::kCPU, at::kDouble);
  const double weight_norm = weight.norm().item<double>();
  const at::Tensor& added = model.block(site.layer).mlp.down.bias;
  const auto bias = added.defined() ? added.detach().to(at::kCPU, at::kDouble)
                                    : at::zeros({weight.size(0)}, at::kDouble);
  EditFile file;
  auto written = weight.clone();  // W with the requests before this one
  std::vector<at::Tensor> lefts, rights;
  for (size_t e = 0; e < edits.size(); ++e) {
    const auto mean_key = row(kv.key, e);
    const auto key = settings.original_key ? row(kv.bare_key, e) : mean_key;
    const auto value = row(kv.initial, e) + row(kv.delta, e);  // v* = v0 + δ

    // u = C⁻¹ k̄ / ‖C⁻¹ k̄‖
    const auto whitened = statistics.solve(site, settings.ridge, mean_key.unsqueeze(1)).squeeze(1);
    const auto u = whitened / whitened.norm();
    // ΔW = (v* - W k) (kᵀu)⁻¹ uᵀ
    const double key_dot_u = key.dot(u).item<double>();
    const auto left = ((value - written.mv(key) - bias) / key_dot_u).to(at::kFloat);
    const auto right = u.to(at::kFloat);
    if (!at::isfinite(left).all().item<bool>()) {
      throw Diverged(fmt::format("edit request '{}': the update is not finite (k'u = {})",
                                 edits[e].id, key_dot_u));
    }
    written += at::outer(left.to(at::kDouble), right.to(at::kDouble));
    lefts.push_back(left.unsqueeze(1));
    rights.push_back(right.unsqueeze(0));

    EditMeasure measure;
    measure.id = edits[e].id;
    measure.layer = site.layer;
    measure.key_dot_u = key_dot_u;
    // kᵀC⁻¹k̄ / sqrt(k̄ᵀC⁻¹k̄ · kᵀC⁻¹k): 1 for R-ROME, where both keys are the same.
    if (settings.original_key) {
      const auto own = statistics.solve(site, settings.ridge, key.unsqueeze(1)).squeeze(1);
      measure.key_alignment =
          key.dot(whitened).item<double>() /
          std::sqrt(mean_key.dot(whitened).item<double>() * key.dot(own).item<double>());
    }
    measure.relative_norm = left.norm().item<double>() * right.norm().item<double>() / weight_norm;
    measure.target_loss = row(kv.nll, e).item<double>();
    measure.steps = kv.steps[static_cast<int64_t>(e)].item<int64_t>();
    file.measures.push_back(measure);
  }
  const at::Tensor left = at::cat(lefts, 1);
  for (auto& [name, right] : cut(model, site, at::cat(rights, 0))) {
    file.deltas.push_back({name, left, right});
  }
  return file;
}

}  // namespace

const MethodPage rome_page = {
    .file = "editing/rome.cpp",
    .formula = R"(\Delta = (v^* - W \bar k) \, (\bar k^\top u)^{-1} \, u^\top,
    \quad u = \frac{C^{-1} \bar k}{\|C^{-1} \bar k\|}

v^* = v_0 + \arg\min_\delta \; {-\operatorname{mean}_{j,t}} \log p_\delta(y_t)
    + \lambda_{\mathrm{KL}} \, \mathrm{KL}(p_\delta \,\|\, p_0)
    + \lambda_{\mathrm{wd}} \, \frac{\|\delta\|}{\|v_0\|^2})",
    .symbols = R"(v^*: what the MLP should give there
v_0: what it gives now, on the bare prompt
\delta: found by Adam, $\|\delta\|$ at most `value.clamp` times $\|v_0\|$
p_\delta: the model with $\delta$ added to the MLP's output at the subject's last token
j: the request's prompts; $t$ the target's tokens
\lambda_{\mathrm{KL}}: `value.kl_factor`, at the subject of a prompt of its own,
    against $p_0$, the model as it was
\lambda_{\mathrm{wd}}: `value.weight_decay`)",
    .cost =
        "The blocks up to the edited one and the positions before the subject run once; each Adam "
        "step runs the blocks above from the subject on, for all requests together.",
    .needs = needs_requests_and_covariance,
    .traps =
        "As published, the averaged key stands in u and the bare prompt's key elsewhere; then k'u "
        "can approach 0 and one edit ruins the model, most of all where the subject comes first. "
        "R-ROME, the default here, takes the averaged key everywhere; `original_key` gives the "
        "other. A subject's last token must be found through character offsets, not by encoding "
        "the subject alone, and a target by joining ids, not by decoding and encoding again. The "
        "norm in the decay is not squared.",
};

int64_t rome_layer(const RomeSettings& settings, const Model& model) {
  return edited_layer(settings.layer, 0.16, model);
}

EditFile rome(const RomeSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics) {
  const OrderSettings order{.batch = settings.sequential_values ? 1 : 0};
  return in_batches(order, model, edits, [&](const Model& current, auto batch) {
    return rome_batch(settings, current, batch, statistics);
  });
}

}  // namespace resurface
