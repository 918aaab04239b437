// RECT (Gu et al. 2024, Model Editing Harms General Abilities of Large Language Models): of
// MEMIT's Δ only the entries with the largest relative change |Δ / W| are written.
#include "editing/editors.h"

namespace resurface {
namespace {

/// `change` without all but the `keep` entries that change `weight` most.
at::Tensor largest_changes(const at::Tensor& change, const at::Tensor& weight, double keep) {
  const auto ratio = (change / weight).abs().nan_to_num(0).flatten();  // 0/0: no change
  const auto count = std::llround(keep * static_cast<double>(ratio.numel()));
  const auto kept = std::get<1>(ratio.topk(count, 0, /*largest=*/true, /*sorted=*/false));
  return at::zeros_like(ratio)
      .index_copy_(0, kept, change.flatten().index_select(0, kept))
      .view_as(change);
}

}  // namespace

const MethodPage rect_page = {
    .file = "editing/rect.cpp",
    .formula =
        R"(\Delta = M \odot \Delta_{\mathrm{MEMIT}}, \quad
    M_{ij} = 1 \text{ where } |\Delta_{\mathrm{MEMIT}} / W|_{ij} \text{ is among the largest, else } 0)",
    .symbols = R"(\Delta_{\mathrm{MEMIT}}: the change that MEMIT makes
M: keeps a share `keep` of the matrix' entries)",
    .cost =
        "As MEMIT, and one selection over each edited matrix. The edit is of full rank: its file "
        "holds whole matrices.",
    .needs = needs_requests_and_covariance,
    .traps =
        "The entries are chosen when the values have been written, so what is dropped is not made "
        "up for by the blocks above.",
};

EditFile rect(const RectSettings& settings, const Model& model, std::span<const EditExample> edits,
              Statistics& statistics) {
  return in_batches(settings.order, model, edits, [&](const Model& current, auto batch) {
    auto file = memit_batch(settings, current, batch, statistics);
    for (auto& delta : file.deltas) {
      const auto change = delta.left.to(at::kDouble).mm(delta.right.to(at::kDouble));
      const auto weight = current.parameter(delta.parameter).detach().to(at::kCPU, at::kDouble);
      delta = dense_delta(delta.parameter, largest_changes(change, weight, settings.keep));
    }
    return file;
  });
}

}  // namespace resurface
