#include "finetune/tar.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/run/seeds.h"
#include "finetune/gradients.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

const Needs kNeeds{.retain = true};

Loss ascent(Model& model, const ForgetRetainBatch& batch) {
  Loss loss{.forget = -model.token_nll(batch.forget)};
  if (batch.retain.size() > 0) loss.retain = 2 * model.token_nll(batch.retain);
  return loss;
}

const TarSettings kTar{
    .steps = 3, .every = 1, .rates = {1e-2}, .batch_size = 9, .weight = 4, .schedule = 0.5};

/// Mean entropy of the next token over all answers' tokens, from the probabilities.
at::Tensor entropy(const Model& model, const Batch& batch) {
  const at::Tensor p = model.logits(model.hidden(batch)).index_select(0, batch.rows).softmax(-1);
  return -(p * (p + 1e-30).log()).sum(-1).mean();
}

struct Setup {
  std::vector<Example> forget = random_examples(6, 3), retain = random_examples(6, 4);
  std::vector<int64_t> held_out = {4, 1};
  std::vector<Example> tested = {forget[4], forget[1]},
                       known = {forget[0], forget[2], forget[3], forget[5]};
  TrainData data() const { return {.forget = forget, .retain = retain}; }
  TrainerSettings settings(int64_t accumulate = 1) const {
    TrainerSettings settings = fp32_settings();
    settings.steps = 4;
    settings.batch_size = 3;
    settings.accumulate = accumulate;
    return settings;
  }
  Values trained(const Wrap& wrap, int64_t accumulate = 1) const {
    Model model = tiny_model();
    train(model, ascent, kNeeds, data(), settings(accumulate), 7, {}, wrap);
    return values_of(model);
  }
  /// Zeros where there is no gradient.
  Values tamper(Model& model, const TarSettings& tar, int64_t parts = 1, uint64_t seed = 5) const {
    model.require_grad(true);
    auto found = tamper_gradients(model, tar, model.parameters(), forget, held_out, parts, seed);
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK_FALSE(model.parameters()[i].second.grad().defined());
      if (!found[i].defined()) found[i] = at::zeros_like(model.parameters()[i].second);
    }
    return found;
  }
};

/// Attacks a copy by hand and adds up the weighted gradients of minus the entropy.
Values by_hand(const Setup& setup, const TarSettings& tar, double rate) {
  Model model = tiny_model();
  const Batch known = pack(setup.known), tested = pack(setup.tested);
  AdamW attacker(model.parameters(), {});
  Values sum;
  for (int64_t k = 1; k <= tar.steps; ++k) {
    model.require_grad(true);
    model.token_nll(known).backward();
    attacker.step(rate);
    attacker.clear_gradients();
    if (k % tar.every != 0) continue;
    const double weight = tar.weight * std::exp(-tar.schedule * static_cast<double>(tar.steps - k));
    const Values part = gradients(model, [&] { return -weight * entropy(model, tested); });
    if (sum.empty()) {
      sum = part;
    } else {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    }
  }
  return sum;
}

TEST_CASE("the tamper-resistance gradient is that of the entropy at the attacked weights",
          "[tar]") {
  const Setup setup;
  Model model = tiny_model();
  const Values before = values_of(model);
  for (const int64_t every : {int64_t{1}, int64_t{2}}) {
    TarSettings tar = kTar;
    tar.every = every;
    const Values expected = by_hand(setup, tar, 1e-2);
    REQUIRE(distance(expected, Values(expected.size(), at::zeros({1}))) > 1e-2);
    const Values found = setup.tamper(model, tar);
    CHECK(distance(found, expected) < 1e-4);
    CHECK(distance(setup.tamper(model, tar, 2), expected) < 1e-4);
    CHECK(same_bits(values_of(model), before));
    CHECK(same_bits(setup.tamper(model, tar), found));
  }
  // The attacker draws its rate.
  TarSettings drawn = kTar;
  drawn.rates = {1e-3, 1e-2};
  int64_t slow = 0, fast = 0;
  const Values at_slow = by_hand(setup, kTar, 1e-3), at_fast = by_hand(setup, kTar, 1e-2);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Values found = setup.tamper(model, drawn, 1, seed);
    slow += distance(found, at_slow) < 1e-4;
    fast += distance(found, at_fast) < 1e-4;
  }
  CHECK(slow + fast == 8);
  CHECK(slow > 0);
  CHECK(fast > 0);
}

TEST_CASE("TAR's step: the method's gradient, the tampering's, and that of the drift", "[tar]") {
  const Setup setup;
  const TrainData data = setup.data();
  TarSettings tar = kTar;
  tar.representation = 0.8;
  const Wrap wrap{.tar = tar};
  Model start = tiny_model(2), model = tiny_model();
  const auto [objective, needs] = with_wrappers(ascent, kNeeds, wrap, model.config());
  CHECK(needs.retain_block == 1);
  Reference reference(start, needs, data);  // as though training had moved the model since
  reference.compute();
  model.require_grad(true);
  const AdamW optimizer(model.parameters(), {});
  StepGradients step(model, objective, needs, data, reference, optimizer, wrap, 1, 11);
  step.accumulate({.forget = setup.held_out, .retain = {0, 3}}, 6, 1);
  Values found;
  for (const auto& [name, tensor] : model.parameters()) found.push_back(tensor.grad().clone());

  Model other = tiny_model();
  const std::vector<Example> kept = {setup.retain[0], setup.retain[3]};
  const ForgetRetainBatch batch{.forget = pack(setup.tested), .retain = pack(kept)};
  Values expected = gradients(other, [&] {
    const auto rows = [&](const Model& m) {
      return m.hidden(batch.retain).index_select(0, batch.retain.rows);
    };
    const at::Tensor gap = (rows(other) - rows(start).detach()).square().mean();
    return ascent(other, batch).total() + 0.8 * gap;
  });
  const Values tamper = setup.tamper(other, tar, 1, derive_seed(11, "tar 6"));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += tamper[i];
  CHECK(distance(found, expected) < 2e-4);
}

TEST_CASE("TAR without attack steps is its base method bit for bit", "[tar]") {
  const Setup setup;
  const Values base = setup.trained({});
  CHECK(same_bits(setup.trained({.tar = TarSettings{.steps = 0}}), base));
  CHECK_FALSE(same_bits(setup.trained({.tar = kTar}), base));
  CHECK(distance(setup.trained({.tar = kTar}, 1), setup.trained({.tar = kTar}, 3)) < 1e-3);
  // A method that compares a block's state itself keeps its own.
  CHECK(with_wrappers(ascent, {.retain = true, .retain_block = 0}, {.tar = kTar}, tiny_config())
            .needs.retain_block == 0);
  CHECK(with_wrappers(ascent, {}, {.tar = kTar}, tiny_config()).needs.retain_block == -1);
}

TEST_CASE("a resumed run under TAR ends where an uninterrupted one does", "[tar]") {
  const Setup setup;
  const Wrap wrap{.sam = SamSettings{.rho = 0.1}, .tar = kTar};
  const fs::path state = fs::temp_directory_path() / "resurface_test_tar_state";
  fs::remove(state);
  Model killed = tiny_model();
  REQUIRE_THROWS_AS(train(killed, ascent, kNeeds, setup.data(), setup.settings(), 7,
                          {.on_step =
                               [](const StepReport& report) {
                                 if (report.step == 3) throw std::runtime_error("killed");
                                 return true;
                               },
                           .state = state,
                           .state_every = 2},
                          wrap),
                    std::runtime_error);
  Model model = tiny_model();
  train(model, ascent, kNeeds, setup.data(), setup.settings(), 7, {.state = state}, wrap);
  CHECK(same_bits(values_of(model), setup.trained(wrap)));
}

TEST_CASE("what TAR cannot do is refused", "[tar]") {
  const Setup setup;
  Model model = tiny_model();
  TrainerSettings settings = setup.settings();
  settings.batch_size = 6;
  REQUIRE_THROWS_WITH(train(model, ascent, kNeeds, setup.data(), settings, 7, {}, {.tar = kTar}),
                      Catch::Contains("all 6") && Catch::Contains("batch_size"));
  const auto parse = [](const char* text) { return read_wrap(Config::parse(text)); };
  const TarSettings defaults = *parse("[tar]").tar;
  CHECK(defaults.steps == 64);
  CHECK(defaults.every == 4);
  CHECK(defaults.rates == std::vector<double>{2e-6, 2e-5, 4e-5});
  CHECK_THROWS_WITH(parse("[{tar: {rates: []}}]"), Catch::Contains("is empty"));
  CHECK_THROWS_AS(parse("[{tar: {rates: [0]}}]"), ConfigError);
  CHECK_THROWS_AS(parse("[{tar: {every: 0}}]"), ConfigError);
}

}  // namespace
}  // namespace resurface
