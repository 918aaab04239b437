#include "finetune/reference.h"

#include "core/run/error.h"
#include "core/tensor/ops.h"

namespace resurface {
namespace {

using Examples = std::span<const Example>;

/// The rows of a table in which example i's are starts[i] .. starts[i + 1] - 1.
at::Tensor rows_of(std::span<const int64_t> indices, const std::vector<int64_t>& starts) {
  std::vector<int64_t> rows;
  for (const int64_t index : indices) {
    const auto i = static_cast<size_t>(index);
    for (int64_t row = starts[i]; row < starts[i + 1]; ++row) rows.push_back(row);
  }
  return at::tensor(at::IntArrayRef(rows));
}

/// A table with `each(batch)` [rows of the batch, ...] of all examples.
template <class Each>
at::Tensor tabulate(const Model& model, Examples examples, const std::vector<int64_t>& starts,
                    Each&& each) {
  constexpr int64_t kTokens = 2048;
  const at::NoGradGuard no_grad;
  at::Tensor table;
  for (const auto& indices : batches_by_tokens(examples, kTokens)) {
    const at::Tensor values = each(pack_chosen(examples, indices, model.device())).cpu();
    if (!table.defined()) {
      auto sizes = values.sizes().vec();
      sizes[0] = starts.back();
      table = at::empty(sizes, values.options());
    }
    table.index_copy_(0, rows_of(indices, starts), values);
  }
  return table;
}

std::vector<int64_t> counting(size_t size) {
  std::vector<int64_t> starts(size + 1);
  std::iota(starts.begin(), starts.end(), int64_t{0});
  return starts;
}

}  // namespace

at::Tensor reference_logprobs(const Model& model, Examples examples) {
  return tabulate(model, examples, counting(examples.size()),
                  [&](const Batch& batch) { return model.sequence_logprob(batch).to(at::kFloat); });
}

std::vector<std::pair<const char*, at::Tensor*>> Reference::Kept::tensors() {
  return {{"logprob", &logprob}, {"rows", &rows}, {"hidden", &hidden}, {"frozen", &frozen}};
}

Reference::Reference(const Model& model, const Needs& needs, const TrainData& data)
    : model_(model) {
  auto& [forget, alternative, retain] = kept_;
  forget = {.examples = data.forget,
            .name = "",
            .wants_logprob = needs.reference_logprob,
            .wants_logits = needs.forget_logits,
            .frozen_blocks = needs.frozen_blocks};
  alternative.name = ".alternative";
  if (needs.alternative) {
    alternative.examples = data.alternative;
    alternative.wants_logprob = needs.reference_logprob;
  }
  retain.name = ".retain";
  if (needs.retain) {
    retain.examples = data.retain;
    retain.wants_logits = needs.retain_logits;
    retain.block = needs.retain_block;
    retain.frozen_blocks = needs.frozen_blocks;
  }
  for (Kept& kept : kept_) {
    for (const Example& example : kept.examples) {
      kept.scored.push_back(kept.scored.back() + static_cast<int64_t>(example.answer.size()));
      kept.tokens.push_back(kept.tokens.back() + example.size() - 1);
    }
  }
  if (!needs.forget_logits && !needs.retain_logits) return;
  const auto frozen = [&](const at::Tensor& value, at::ScalarType dtype) {
    if (!value.defined()) return value;
    const at::Tensor cast = value.detach().to(dtype);
    return value.requires_grad() && cast.is_alias_of(value) ? cast.clone() : cast;
  };
  const auto& [weight, bias] = model.weights().final_norm;
  frozen_.final_norm = {frozen(weight, weight.scalar_type()), frozen(bias, weight.scalar_type())};
  frozen_.head = frozen(model.weights().head, model.compute());
  frozen_.head_bias = frozen(model.weights().head_bias, model.compute());
}

void Reference::compute() {
  for (Kept& kept : kept_) {
    const auto table = [&](const std::vector<int64_t>& starts, auto&& each) {
      return tabulate(model_, kept.examples, starts, each);
    };
    if (kept.examples.empty()) continue;
    if (kept.wants_logprob) kept.logprob = reference_logprobs(model_, kept.examples);
    if (kept.wants_logits) {
      kept.rows =
          table(kept.scored, [&](const Batch& b) { return model_.hidden(b, {.rows = b.rows}); });
    }
    if (kept.block >= 0) {
      kept.hidden = table(kept.scored, [&](const Batch& b) {
        return model_.hidden(b, {.last = kept.block + 1, .rows = b.rows});
      });
    }
    if (kept.frozen_blocks > 0) {
      kept.frozen = table(kept.tokens, [&](const Batch& b) {
        return model_.hidden(b, {.last = kept.frozen_blocks});
      });
    }
  }
}

NamedTensors Reference::state() const {
  NamedTensors all;
  for (Kept kept : kept_) {
    for (const auto& [name, tensor] : kept.tensors()) {
      if (tensor->defined())
        all.emplace_back(fmt::format("reference_{}{}", name, kept.name), *tensor);
    }
  }
  return all;
}

void Reference::restore(const NamedTensors& state) {
  for (Kept& kept : kept_) {
    for (const auto& [name, tensor] : kept.tensors()) {
      const std::string wanted = fmt::format("reference_{}{}", name, kept.name);
      for (const auto& [stored, value] : state) {
        if (stored == wanted) *tensor = value.clone();
      }
    }
  }
}

at::Tensor Reference::logits(const at::Tensor& rows) const {
  const at::NoGradGuard no_grad;
  flops_ += 2 * static_cast<double>(rows.size(0)) * static_cast<double>(frozen_.head.numel());
  const at::Tensor z = model_.logits(rows, frozen_);
  return z.scalar_type() == at::kDouble ? z : z.to(at::kFloat);
}

void Reference::attach(Batch& batch, Set set, std::span<const int64_t> indices) const {
  const Kept& kept = kept_[static_cast<size_t>(set)];
  const auto chosen = [&](const at::Tensor& table, const std::vector<int64_t>& starts) {
    return table.index_select(0, rows_of(indices, starts)).to(model_.device());
  };
  if (kept.logprob.defined()) {
    batch.reference_logprob = chosen(kept.logprob, counting(kept.examples.size()));
  }
  if (kept.rows.defined()) batch.reference_logits = logits(chosen(kept.rows, kept.scored));
  if (kept.hidden.defined()) batch.reference_hidden = chosen(kept.hidden, kept.scored);
  if (kept.frozen.defined()) batch.frozen = chosen(kept.frozen, kept.tokens);
}

}  // namespace resurface
