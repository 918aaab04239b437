// Mixtures of experts: which experts a token uses, and what they give together.
#include "core/model/attention.h"
#include "core/run/error.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

/// Where each expert's part of a key begins that has those of `asked`; -1: it has none.
std::vector<int64_t> key_columns(const Experts& e, const std::vector<int64_t>& asked) {
  std::vector<int64_t> columns(static_cast<size_t>(e.count), -1);
  for (size_t i = 0; i < asked.size(); ++i) {
    if (asked[i] < 0 || asked[i] >= e.count) {
      fail("expert {} asked, a layer has 0 .. {}", asked[i], e.count - 1);
    }
    columns[static_cast<size_t>(asked[i])] = static_cast<int64_t>(i) * e.width;
  }
  return columns;
}

}  // namespace

std::pair<at::Tensor, at::Tensor> Model::route(const Block& block, const at::Tensor& x) const {
  const Experts& e = *config_.experts;
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  // Never in the compute dtype: a rounded score would send tokens elsewhere.
  const at::Tensor in = x.to(wide);
  at::Tensor logits = at::linear(in, block.router.weight.to(wide));
  count(2 * static_cast<double>(x.size(0)) * static_cast<double>(block.router.weight.numel()),
        x.requires_grad(), block.router.weight.requires_grad());
  if (block.router.lora) {
    const auto& [a, b, scale, magnitude] = *block.router.lora;
    logits = logits + scale * at::linear(at::linear(in, a.to(wide)), b.to(wide));
  }
  const at::Tensor scores = e.sigmoid ? logits.sigmoid() : logits.softmax(1);

  at::Tensor chosen;
  {
    const at::NoGradGuard no_grad;  // which ones is no matter of degree
    at::Tensor choice = scores.detach();
    if (e.bias) choice = choice + block.router_bias.to(wide);
    if (e.one_a_group) {
      const int64_t size = e.count / e.groups;
      chosen = choice.view({-1, e.groups, size}).argmax(2) +
               size * at::arange(e.groups, at::device(x.device()));
    } else if (e.groups > 1) {
      const at::Tensor grouped = choice.view({-1, e.groups, e.count / e.groups});
      const at::Tensor worth =
          e.group_by_two ? std::get<0>(grouped.topk(std::min<int64_t>(2, grouped.size(2)))).sum(2)
                         : grouped.amax(2);
      const at::Tensor best = std::get<1>(worth.topk(e.groups_kept));
      const at::Tensor kept = at::zeros_like(worth, at::kBool).scatter(1, best, 1);
      choice = grouped
                   .masked_fill(kept.logical_not().unsqueeze(2),
                                -std::numeric_limits<double>::infinity())
                   .view_as(choice);
    }
    if (!chosen.defined()) chosen = std::get<1>(choice.topk(e.per_token));
  }
  at::Tensor weight = scores.gather(1, chosen);
  if (e.scaled) {
    weight =
        weight *
        block.router_scale.to(wide).squeeze(0).index_select(0, chosen.flatten()).view_as(weight);
  }
  if (e.normalise) weight = weight / (weight.sum(1, true) + 1e-20);
  return {chosen, weight * e.scale};
}

at::Tensor Model::mixture(const Block& block, int64_t layer, const at::Tensor& x,
                          const Starts& starts, const HiddenOptions& options) const {
  const Experts& e = *config_.experts;
  const auto [chosen, weight] = route(block, x);
  if (options.on_experts) options.on_experts(layer, chosen);
  const int64_t last = options.last < 0 ? config_.layers : options.last;
  const bool stop = options.stop_at_key && layer + 1 == last;
  at::Tensor key;
  std::vector<int64_t> columns(static_cast<size_t>(e.count), -1);
  const auto asked = options.key_experts.find(layer);
  const bool shared = !block.mlp.down.name.empty();  // whose key has been reported
  if (!shared && options.on_key && asked != options.key_experts.end()) {
    columns = key_columns(e, asked->second);
    key = at::zeros({x.size(0), std::ssize(asked->second) * e.width}, x.options());
  }
  // Places (token, choice) ordered by expert; within an expert tokens stay in order.
  const at::Tensor flat = chosen.flatten();
  const at::Tensor order = flat.argsort(/*stable=*/true);
  const at::Tensor token = order.floor_divide(e.per_token);
  const at::Tensor counts = at::bincount(flat, {}, e.count).cpu();
  const at::Tensor token_on_cpu = starts.empty() ? at::Tensor() : token.cpu();
  std::vector<at::Tensor> parts;
  int64_t end = 0;
  for (int64_t i = 0; i < e.count; ++i) {
    const auto size = counts[i].item<int64_t>();
    const int64_t begin = end;
    end += size;
    const int64_t column = columns[static_cast<size_t>(i)];
    if (size == 0 || (stop && column < 0)) continue;
    const at::Tensor own_tokens = token.narrow(0, begin, size);
    const Starts own =
        starts.empty() ? Starts() : starts_among(starts, token_on_cpu.narrow(0, begin, size));
    const Mlp& expert = block.experts[static_cast<size_t>(i)];
    const at::Tensor active = activated(expert, x.index_select(0, own_tokens), own);
    if (column >= 0) {
      const at::Tensor share = weight.flatten().index_select(0, order.narrow(0, begin, size));
      key.narrow(1, column, e.width)
          .index_copy_(0, own_tokens, active * share.to(active.scalar_type()).unsqueeze(1));
    }
    if (!stop) parts.push_back(apply(expert.down, active, own));
  }
  if (key.defined()) options.on_key(layer, key);
  if (stop) return {};
  // Back to [N, k, d], and the weighted sum over a token's experts.
  const at::Tensor back = order.argsort();
  const at::Tensor all = at::cat(parts).index_select(0, back).view({x.size(0), e.per_token, -1});
  return (all * weight.to(all.scalar_type()).unsqueeze(2)).sum(1);
}

}  // namespace resurface
