#include "finetune/tar.h"

#include <cmath>
#include <set>

#include "core/run/error.h"
#include "core/run/seeds.h"
#include "finetune/sampler.h"
#include "finetune/terms.h"
#include "finetune/wrappers.h"

namespace resurface {
namespace {

/// Minus the mean entropy of the next token at the answers, for the part's share of all tokens.
at::Tensor tamper_loss(const Model& model, const Batch& batch, double share) {
  const at::Tensor logp = answer_logits(model, batch).log_softmax(-1);
  return share * token_mean((logp.exp() * logp).sum(-1), batch);
}

double weighted_tokens(std::span<const Example> examples, std::span<const int64_t> indices) {
  double sum = 0;
  for (const int64_t index : indices) {
    const Example& example = examples[static_cast<size_t>(index)];
    sum += example.weight * static_cast<double>(example.answer.size());
  }
  return sum;
}

}  // namespace

std::vector<at::Tensor> tamper_gradients(Model& model, const TarSettings& settings,
                                         const NamedTensors& weights,
                                         std::span<const Example> forget,
                                         std::span<const int64_t> held_out, int64_t parts,
                                         uint64_t seed) {
  const std::set<int64_t> hidden(held_out.begin(), held_out.end());
  std::vector<int64_t> others;
  for (int64_t i = 0; i < std::ssize(forget); ++i) {
    if (!hidden.contains(i)) others.push_back(i);
  }
  if (others.empty()) {
    fail(
        "tar: its attacker has the forget examples that are not in the step's batch, and the batch "
        "has all {}; a smaller batch_size leaves it some",
        forget.size());
  }
  const PutBack put_back(weights);
  ShuffledPasses order(std::ssize(others), derive_seed(seed, "examples"));
  std::mt19937_64 generator(derive_seed(seed, "rate"));
  const double rate = settings.rates[generator() % settings.rates.size()];
  AdamW attacker(weights, {});
  torch::autograd::variable_list leaves;
  for (const auto& [name, value] : weights) leaves.push_back(value);
  std::vector<at::Tensor> sums(weights.size());
  for (int64_t k = 1; k <= settings.steps; ++k) {
    std::vector<int64_t> trained;
    while (std::ssize(trained) < std::min<int64_t>(settings.batch_size, std::ssize(others))) {
      trained.push_back(others[static_cast<size_t>(order.next())]);
    }
    model.token_nll(pack_chosen(forget, trained, model.device())).backward();
    attacker.step(rate);
    attacker.clear_gradients();
    if (k % settings.every != 0) continue;
    const double weight =
        settings.weight * std::exp(settings.schedule * static_cast<double>(k - settings.steps));
    const auto count = std::ssize(held_out);
    const int64_t pieces = std::min<int64_t>(parts, count);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const auto begin = piece * count / pieces, end = (piece + 1) * count / pieces;
      const auto some =
          held_out.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
      const double share = weighted_tokens(forget, some) / weighted_tokens(forget, held_out);
      const at::Tensor loss =
          tamper_loss(model, pack_chosen(forget, some, model.device()), weight * share);
      const auto gradients = torch::autograd::grad({loss}, leaves, {}, std::nullopt, false,
                                                   /*allow_unused=*/true);
      for (size_t i = 0; i < sums.size(); ++i) {
        if (!gradients[i].defined()) continue;
        sums[i] = sums[i].defined() ? sums[i].add_(gradients[i]) : gradients[i].clone();
      }
    }
  }
  return sums;
}

at::Tensor representation_gap(const Model& model, const Batch& retain, int64_t block) {
  const at::Tensor now = model.hidden(retain, {.last = block + 1, .rows = retain.rows});
  return token_mean((now - retain.reference_hidden).square().mean(-1), retain);
}

}  // namespace resurface
