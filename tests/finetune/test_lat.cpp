#include "finetune/lat.h"

#include <catch2/catch.hpp>

#include "finetune/gradients.h"
#include "finetune/sft.h"
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

const LatSettings kLat{.layers = {-1, 0}, .epsilon = 0.7, .steps = 4};

TEST_CASE("what a batch adds goes into the residual stream after its block", "[lat]") {
  const auto examples = random_examples(4, 3);
  Model model = tiny_model();
  const Batch plain = pack(examples);
  const at::Tensor value = at::rand({plain.tokens(), 32}), early = at::rand({plain.tokens(), 32});
  Batch batch = plain;
  batch.added = {{0, value}, {-1, early}};
  const at::NoGradGuard no_grad;
  const at::Tensor first =
      model.hidden(plain, {.last = 1, .start = model.embed(plain) + early}) + value;
  const at::Tensor expected = model.hidden(plain, {.first = 1, .start = first});
  CHECK(at::equal(model.hidden(batch), expected));
  CHECK(at::allclose(model.hidden(batch, {.rows = batch.rows}),
                     expected.index_select(0, batch.rows), 1e-5, 1e-5));
  // In the last block, too, and where only some of its rows are asked for.
  CHECK(at::allclose(model.hidden(batch, {.last = 1, .rows = batch.rows}),
                     first.index_select(0, batch.rows), 1e-5, 1e-5));
  // A resumed pass has what came before its start behind it.
  CHECK(at::equal(model.hidden(batch, {.first = 1, .start = first}), expected));
  CHECK_FALSE(at::allclose(model.hidden(plain), expected));
  const at::AutoGradMode enable(true);
  model.set_checkpointing(true);
  CHECK(at::allclose(model.hidden(batch).detach(), expected, 1e-5, 1e-5));
}

TEST_CASE("the adversary brings the answers back within its ball", "[lat]") {
  const auto examples = random_examples(5, 3);
  Model model = tiny_model();
  model.require_grad(true);
  Batch batch = pack(examples);
  const auto nll = [&](const std::vector<Batch::Added>& added) {
    const at::NoGradGuard no_grad;
    Batch moved = batch;
    moved.added = added;
    return model.token_nll(moved).item<double>();
  };
  const double before = nll({});
  for (const std::string tokens : {"prompt", "all"}) {
    INFO(tokens);
    LatSettings settings = kLat;
    settings.tokens = tokens;
    const auto added = latent_attack(model, batch, model.parameters(), settings);
    REQUIRE(added.size() == 2);
    CHECK(added[0].layer == -1);
    CHECK(nll(added) < before - 0.1);
    for (const auto& one : added) {
      const at::Tensor norms = one.value.norm(2, -1);
      CHECK(norms.max().item<double>() < 0.7 * (1 + 1e-5));
      CHECK(norms.max().item<double>() > 0.69);
      CHECK_FALSE(one.value.requires_grad());
      for (size_t b = 0; b < examples.size(); ++b) {
        const auto begin = batch.starts[b];
        const auto answer = begin + static_cast<int64_t>(examples[b].prompt.size());
        CHECK(norms.slice(0, begin, answer).min().item<double>() > 0);
        if (tokens == "prompt") {
          CHECK(norms.slice(0, answer, batch.starts[b + 1]).sum().item<double>() == 0);
        }
      }
    }
  }
  // Its direction is the steepest: no random one of the same lengths does as much.
  LatSettings small{.layers = {0}, .epsilon = 0.01, .steps = 1, .step_size = 0.01};
  const auto steepest = latent_attack(model, batch, model.parameters(), small);
  for (uint64_t draw = 0; draw < 20; ++draw) {
    at::Tensor other = at::randn(steepest[0].value.sizes());
    other = other / other.norm(2, -1, true) * steepest[0].value.norm(2, -1, true);
    CHECK(nll({{0, other}}) > nll(steepest));
  }
  for (const auto& [name, value] : model.parameters()) {
    CHECK(value.requires_grad());
    CHECK_FALSE(value.grad().defined());
  }
  CHECK(latent_attack(model, batch, model.parameters(), {.epsilon = 0}).empty());
  CHECK(latent_attack(model, batch, model.parameters(), {.steps = 0}).empty());
}

struct Setup {
  std::vector<Example> forget = random_examples(6, 3), retain = random_examples(6, 4);
  TrainData data() const { return {.forget = forget, .retain = retain}; }
  TrainerSettings settings(int64_t accumulate = 1) const {
    TrainerSettings settings = fp32_settings();
    settings.steps = 5;
    settings.batch_size = 4;
    settings.accumulate = accumulate;
    return settings;
  }
  Values trained(const Wrap& wrap, int64_t accumulate = 1) const {
    Model model = tiny_model();
    train(model, ascent, kNeeds, data(), settings(accumulate), 7, {}, wrap);
    return values_of(model);
  }
};

TEST_CASE("LAT takes the forget gradient under the adversary, the retain gradient without",
          "[lat]") {
  const Setup setup;
  const Wrap wrap{.lat = kLat};
  const Objective objective = ascent;
  Model model = tiny_model(), other = tiny_model();
  model.require_grad(true);
  const AdamW optimizer(model.parameters(), {});
  const TrainData data = setup.data();
  const Reference reference(model, kNeeds, data);
  StepGradients step(model, objective, kNeeds, data, reference, optimizer, wrap, 1, 11);
  step.accumulate({.forget = {0, 1, 2, 3, 4, 5}, .retain = {5, 4, 3, 2, 1, 0}}, 1, 1);
  Values found;
  for (const auto& [name, tensor] : model.parameters()) found.push_back(tensor.grad().clone());

  ForgetRetainBatch batch{.forget = pack(setup.forget), .retain = pack(setup.retain)};
  const Values undisturbed = gradients(other, [&] { return ascent(other, batch).total(); });
  batch.forget.added = latent_attack(other, batch.forget, {}, kLat);
  const Values expected = gradients(other, [&] { return ascent(other, batch).total(); });
  CHECK(distance(found, expected) < 1e-4);
  CHECK(distance(found, undisturbed) > 1e-2);
}

TEST_CASE("LAT with no ball or no steps is its base method bit for bit", "[lat]") {
  const Setup setup;
  const Values base = setup.trained({});
  CHECK(same_bits(setup.trained({.lat = LatSettings{.epsilon = 0}}), base));
  CHECK(same_bits(setup.trained({.lat = LatSettings{.steps = 0}}), base));
  CHECK_FALSE(same_bits(setup.trained({.lat = kLat}), base));
  // Each sequence has an adversary of its own, so micro-batches add up; and it goes with SAM.
  CHECK(distance(setup.trained({.lat = kLat}, 1), setup.trained({.lat = kLat}, 3)) < 1e-4);
  CHECK(distance(setup.trained({.sam = SamSettings{.rho = 0}, .lat = kLat}),
                 setup.trained({.lat = kLat})) < 1e-5);
}

TEST_CASE("a resumed run under LAT ends where an uninterrupted one does", "[lat]") {
  const Setup setup;
  const Wrap wrap{.lat = kLat};
  const fs::path state = fs::temp_directory_path() / "resurface_test_lat_state";
  fs::remove(state);
  Model killed = tiny_model();
  REQUIRE_THROWS_AS(train(killed, ascent, kNeeds, setup.data(), setup.settings(), 7,
                          {.on_step =
                               [](const StepReport& report) {
                                 if (report.step == 4) throw std::runtime_error("killed");
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

TEST_CASE("LAT's layers", "[lat]") {
  const ModelConfig model = tiny_config();
  CHECK(LatSettings{}.blocks(model) == std::vector<int64_t>{0});  // 7/32 of 2
  CHECK_THROWS_WITH(LatSettings{.layers = {2}}.blocks(model),
                    Catch::Contains("lat: layer 2") && Catch::Contains("0 .. 1"));
  const auto with = [&](const LatSettings& lat, const Needs& needs) {
    return with_wrappers(ascent, needs, {.lat = lat}, model);
  };
  CHECK_THROWS_WITH(with({.layers = {0}}, {.frozen_blocks = 1}), Catch::Contains("blocks 1"));
  CHECK_NOTHROW(with({.layers = {1}}, {.frozen_blocks = 1}));
  CHECK_NOTHROW(with({.layers = {-1}}, {}));
  const auto parse = [](const char* text) { return read_wrap(Config::parse(text)); };
  CHECK(parse("[lat]").lat->steps == 16);
  CHECK(parse("[{lat: {layers: [0, 1], epsilon: 3}}]").lat->layers == std::vector<int64_t>{0, 1});
  const Wrap both = parse("[{lat: {layers: [-1]}}, tar, average]");
  CHECK(to_json(parse(to_json(both).dump().c_str())) == to_json(both));
  CHECK_THROWS_AS(parse("[{lat: {epsilon: -1}}]"), ConfigError);
  CHECK_THROWS_AS(parse("[{lat: {tokens: answer}}]"), ConfigError);
  CHECK_THROWS_WITH(parse("[{lat: {epsilo: 1}}]"), Catch::Contains("epsilon"));
}

}  // namespace
}  // namespace resurface
