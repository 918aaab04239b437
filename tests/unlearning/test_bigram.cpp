// The bigram world of "Layered Unlearning for Adversarial Relearning" (Qian et al. 2025,
// section 3.2): the smallest case we know in which relearning one unlearned thing brings back
// another.
//
// Three tokens a, b, c. Task A is "a is followed by c", task B "b is followed by c" (each with
// probability .9, else uniform over three); after c comes a or b. One attention-only layer of two
// heads, d = 32, learns both, unlearns both (trains on data without them), and relearns A alone
// with the loss on the tokens after a. The decoder of this project always has an MLP, so the model
// here is written out; the optimiser is the project's.
#include <ATen/CPUGeneratorImpl.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "finetune/adamw.h"

namespace resurface {
namespace {

constexpr int64_t kTokens = 3, kWidth = 32, kHeads = 2, kHeadWidth = kWidth / kHeads, kLength = 8;
constexpr int64_t kSequences = 10000, kBatch = 32, kEpochs = 2;
constexpr double kNoise = 0.05, kRate = 1e-3;

/// Row: the token; column: the probability of the next.
at::Tensor transitions(bool task_a, bool task_b) {
  const at::Tensor p = at::full({kTokens, kTokens}, 1.0 / 3);
  const at::Tensor task = at::tensor({kNoise, kNoise, 1 - 2 * kNoise}, at::kFloat);
  if (task_a) p[0].copy_(task);
  if (task_b) p[1].copy_(task);
  p[2].copy_(at::tensor({(1 - kNoise) / 2, (1 - kNoise) / 2, kNoise}, at::kFloat));
  return p;
}

at::Tensor sequences(const at::Tensor& p, at::Generator& generator) {
  std::vector<at::Tensor> columns = {
      at::randint(0, kTokens, {kSequences}, generator, at::TensorOptions().dtype(at::kLong))};
  while (static_cast<int64_t>(columns.size()) < kLength) {
    columns.push_back(p.index_select(0, columns.back()).multinomial(1, true, generator).squeeze(1));
  }
  return at::stack(columns, 1);
}

class AttentionOnly {
 public:
  explicit AttentionOnly(at::Generator& generator) {
    const auto uniform = [&](int64_t rows, int64_t columns, int64_t fan_in) {
      const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
      return at::empty({rows, columns}).uniform_(-bound, bound, generator).set_requires_grad(true);
    };
    embedding_ = uniform(kTokens, kWidth, kTokens);
    for (auto* matrix : {&q_, &k_, &v_, &o_}) *matrix = uniform(kWidth, kWidth, kWidth);
    head_ = uniform(kTokens, kWidth, kWidth);
    // Sinusoids that enter queries and keys alone, and nothing at position 0, as in the paper's
    // code.
    const at::Tensor theta =
        at::pow(10000.0, 2 * at::arange(kHeadWidth, at::kFloat) / double(kHeadWidth));
    const at::Tensor angle = at::arange(kLength, at::kFloat).unsqueeze(1) / theta;
    positions_ = at::where(at::arange(kHeadWidth) % 2 == 0, angle.sin(), angle.cos());
    positions_[0].zero_();
  }

  NamedTensors parameters() const {
    return {{"embedding", embedding_}, {"q", q_}, {"k", k_}, {"v", v_}, {"o", o_}, {"head", head_}};
  }

  /// [B, T] tokens -> [B, T, 3] log-probs of the next.
  at::Tensor logprobs(const at::Tensor& tokens) const {
    const at::Tensor x = at::embedding(embedding_, tokens);
    const auto heads = [&](const at::Tensor& weight) {
      return at::linear(x, weight).view({-1, kLength, kHeads, kHeadWidth}).transpose(1, 2);
    };
    const at::Tensor mixed = at::scaled_dot_product_attention(
        heads(q_) + positions_, heads(k_) + positions_, heads(v_), {}, 0, /*is_causal=*/true);
    const at::Tensor joined = mixed.transpose(1, 2).reshape({-1, kLength, kWidth});
    return at::linear(x + at::linear(joined, o_), head_).log_softmax(-1);
  }

  AttentionOnly copy() const {
    AttentionOnly other = *this;
    for (auto* tensor :
         {&other.embedding_, &other.q_, &other.k_, &other.v_, &other.o_, &other.head_}) {
      *tensor = tensor->detach().clone().set_requires_grad(true);
    }
    return other;
  }

 private:
  at::Tensor embedding_, q_, k_, v_, o_, head_, positions_;
};

/// Two epochs on data with the given tasks; the loss on the tokens after `only` alone, when it is
/// set.
void train_bigrams(AttentionOnly& model, bool task_a, bool task_b, at::Generator& generator,
                   std::optional<int64_t> only = {}) {
  AdamW optimizer(model.parameters(), {});
  const at::Tensor data = sequences(transitions(task_a, task_b), generator);
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const at::Tensor order = at::randperm(kSequences, generator, at::kLong);
    for (const at::Tensor& rows : order.split(kBatch)) {
      const at::Tensor tokens = data.index_select(0, rows);
      const at::Tensor now = tokens.slice(1, 0, kLength - 1), next = tokens.slice(1, 1);
      const at::Tensor nll =
          -model.logprobs(tokens).slice(1, 0, kLength - 1).gather(2, next.unsqueeze(2)).squeeze(2);
      (only ? nll.masked_select(now == *only) : nll).mean().backward();
      optimizer.step(kRate);
      optimizer.clear_gradients();
    }
  }
}

struct Known {
  double a, b, c;  ///< mean probability of c after each token, on data without the tasks
};

Known known(const AttentionOnly& model, at::Generator& generator) {
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = sequences(transitions(false, false), generator);
  const at::Tensor now = tokens.slice(1, 0, kLength - 1);
  const at::Tensor p = model.logprobs(tokens).exp().slice(1, 0, kLength - 1).select(2, 2);
  const auto after = [&](int64_t token) {
    return p.masked_select(now == token).mean().item<double>();
  };
  return {after(0), after(1), after(2)};
}

// Reference figures (A/B): learned .92/.92, unlearned .34/.34, after relearning A B is at .75, and
// at .53 where unlearning was layered. Without the memory, too, much of B comes: a model that never
// knew either reaches some .7 for B by the same attack, so this world shows how a suppressed output
// is shared, not how much was remembered; that takes an oracle beside every figure.
TEST_CASE("bigram world: relearning A brings B back, less so after layered unlearning",
          "[bigram]") {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{1});
  AttentionOnly model(generator);
  train_bigrams(model, true, true, generator);
  const Known learned = known(model, generator);
  AttentionOnly layered = model.copy();

  train_bigrams(model, false, false, generator);
  const Known unlearned = known(model, generator);
  train_bigrams(model, true, false, generator, 0);
  const Known relearned = known(model, generator);

  train_bigrams(layered, false, true, generator);
  train_bigrams(layered, false, false, generator);
  const Known layered_unlearned = known(layered, generator);
  train_bigrams(layered, true, false, generator, 0);
  const Known layered_relearned = known(layered, generator);

  CAPTURE(learned.a, learned.b, learned.c, unlearned.a, unlearned.b, unlearned.c, relearned.a,
          relearned.b, relearned.c, layered_unlearned.b, layered_relearned.a, layered_relearned.b);
  CHECK(learned.a > 0.85);
  CHECK(learned.b > 0.85);
  CHECK(unlearned.a == Approx(1.0 / 3).margin(0.06));
  CHECK(unlearned.b == Approx(1.0 / 3).margin(0.06));
  CHECK(relearned.a > 0.8);
  CHECK(relearned.b > unlearned.b + 0.2);  // never trained on
  CHECK(relearned.b < learned.b);
  CHECK(layered_unlearned.b == Approx(1.0 / 3).margin(0.06));
  CHECK(layered_relearned.a > 0.8);
  CHECK(layered_relearned.b < relearned.b - 0.05);
}

}  // namespace
}  // namespace resurface
