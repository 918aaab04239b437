#include "finetune/undo.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/run/seeds.h"
#include "finetune/reference.h"
#include "finetune/sft.h"
#include "finetune/terms.h"
#include "tests/finetune/tiny.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

fs::path fresh_path(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / ("resurface_test_undo_" + name);
  fs::remove_all(path);
  return path;
}

/// A model that knows its examples.
struct Taught {
  std::vector<Example> forget = random_examples(6, 3), retain = random_examples(6, 4), all = forget;
  Model teacher = tiny_model();

  Taught() {
    all.insert(all.end(), retain.begin(), retain.end());
    TrainerSettings learning = fp32_settings();
    learning.steps = 40;
    learning.batch_size = 12;
    learning.learning_rate = 1e-2;
    train(teacher, sft, sft_needs, {.forget = all}, learning, 1);
  }

  TrainerSettings training(int64_t steps, double rate = 1e-2) const {
    TrainerSettings settings = fp32_settings();
    settings.steps = steps;
    settings.batch_size = 12;
    settings.learning_rate = rate;
    return settings;
  }
  Distilled run(Model& model, const UndoSettings& settings, const TrainerSettings& training,
                const TrainHooks& hooks = {}, const fs::path& trained = {}) const {
    return undo(model, settings, all, retain, trained, training, 5, hooks);
  }
  double probability(const Model& model) const {
    const at::NoGradGuard no_grad;
    return std::exp(-model.token_nll(pack(retain)).item<double>());
  }
  /// KL(teacher || model) over all answers, the batch packed anew.
  double divergence(const Model& model) const {
    const at::NoGradGuard no_grad;
    const Batch batch = pack(all);
    const at::Tensor p = answer_logits(teacher, batch).to(at::kDouble).softmax(-1);
    const at::Tensor q = answer_logits(model, batch).to(at::kDouble).softmax(-1);
    return (p * (p / q).log()).sum(-1).mean().item<double>();
  }
};

TEST_CASE("UNDO's noise: none at alpha 0, Xavier's initialisation at alpha = beta = 1", "[undo]") {
  Model same = tiny_model();
  add_undo_noise(same, 0, 0.1, 7);
  CHECK(same_bits(values_of(same), values_of(tiny_model())));

  Model noise = tiny_model(1), other = tiny_model(2);
  add_undo_noise(noise, 1, 1, 7);
  add_undo_noise(other, 1, 1, 7);
  CHECK(same_bits(values_of(noise), values_of(other)));  // nothing of the teacher is left
  for (const auto& [name, value] : noise.parameters()) {
    INFO(name);
    if (value.dim() == 1) {
      CHECK(value.abs().max().item<double>() == 0);
      continue;
    }
    const double bound = std::sqrt(6.0 / static_cast<double>(value.size(0) + value.size(1)));
    CHECK(value.abs().max().item<double>() <= bound);
    CHECK(value.abs().max().item<double>() > 0.98 * bound);
    CHECK(value.std().item<double>() == Approx(bound / std::sqrt(3)).epsilon(0.1));
  }

  Model mixed = tiny_model(1);
  const Values before = values_of(mixed), drawn = values_of(noise);
  add_undo_noise(mixed, 0.3, 0.2, 7);
  Values expected;
  for (size_t i = 0; i < before.size(); ++i) {
    expected.push_back(0.7 * before[i] + 0.3 * 0.2 * drawn[i]);
  }
  CHECK(distance(values_of(mixed), expected) < 1e-6);
  Model another = tiny_model(1);
  add_undo_noise(another, 0.3, 0.2, 8);
  CHECK(distance(values_of(another), expected) > 1e-3);
}

TEST_CASE("distilling: KL(teacher || student), zero with no gradient for the teacher itself",
          "[undo]") {
  const Taught taught;
  const TrainData data{.forget = taught.all};
  Reference reference(taught.teacher, distil_needs, data);
  reference.compute();
  ForgetRetainBatch batch{.forget = pack(taught.all)};
  std::vector<int64_t> indices(taught.all.size());
  std::iota(indices.begin(), indices.end(), int64_t{0});
  reference.attach(batch.forget, Reference::Set::forget, indices);
  const auto loss = [&](Model& model) { return distil(model, batch).total(); };

  Model self = taught.teacher.clone();
  CHECK(std::abs(loss(self).item<double>()) < 1e-5);
  for (const at::Tensor& g : gradients(self, [&] { return loss(self); })) {
    CHECK(g.abs().max().item<double>() < 1e-5);
  }

  Model student = tiny_model(9);
  CHECK(loss(student).item<double>() == Approx(taught.divergence(student)).epsilon(1e-4));
  const Values gradient = gradients(student, [&] { return loss(student); });
  double squares = 0;
  for (const at::Tensor& g : gradient) squares += g.square().sum().item<double>();
  REQUIRE(squares > 1e-2);
  const double step = 1e-2 / std::sqrt(squares);
  const auto value_at = [&](double scale) {
    const at::NoGradGuard no_grad;
    Model moved = student.clone();
    for (size_t i = 0; i < gradient.size(); ++i) {
      moved.parameters()[i].second.add_(gradient[i], scale);
    }
    return loss(moved).item<double>();
  };
  CHECK((value_at(step) - value_at(-step)) / (2 * step) == Approx(squares).epsilon(0.01));
}

TEST_CASE("where a student starts", "[undo]") {
  const Taught taught;
  const TrainerSettings still = taught.training(1, 1e-30);
  const auto start = [&](const UndoSettings& settings, const fs::path& trained = {}) {
    Model model = taught.teacher.clone();
    taught.run(model, settings, still, {}, trained);
    return values_of(model);
  };
  Model noised = taught.teacher.clone();
  add_undo_noise(noised, 0.6, 0.1, derive_seed(5, "noise"));
  CHECK(same_bits(start({}), values_of(noised)));
  CHECK(same_bits(start({.student = "fresh"}),
                  values_of(Model::random(tiny_config(), derive_seed(5, "weights")))));
  const fs::path folder = fresh_path("trained");
  const Model implanted = tiny_model(4);
  implanted.save(folder);
  CHECK(same_bits(start({.student = "trained"}, folder), values_of(implanted)));
  fs::remove_all(folder);
  TrainerSettings lora = still;
  lora.reach = "lora";
  Model model = taught.teacher.clone();
  CHECK_THROWS_WITH(taught.run(model, {}, lora), Catch::Contains("reach must be full"));
}

TEST_CASE("UNDO trains until the retained tokens are as likely as under the teacher", "[undo]") {
  const Taught taught;
  REQUIRE(taught.probability(taught.teacher) > 0.7);
  // Nothing to do for a student that is its teacher.
  Model same = taught.teacher.clone();
  const Distilled none = taught.run(same, {.alpha = 0}, taught.training(50));
  CHECK(none.within);
  CHECK(none.training.steps == 0);
  CHECK(none.training.flops > 0);  // the teacher's rows and two looks
  CHECK(same_bits(values_of(same), values_of(taught.teacher)));

  for (const std::string student : {"noise", "fresh"}) {
    INFO(student);
    Model model = taught.teacher.clone();
    const Distilled result =
        taught.run(model, {.student = student, .check_every = 4}, taught.training(400));
    CHECK(result.within);
    CHECK(result.training.steps < 400);
    CHECK(result.training.steps > 0);
    CHECK(result.training.steps % 4 == 0);
    CHECK(taught.probability(model) >= 0.95 * taught.probability(taught.teacher) - 1e-4);
    CHECK(taught.divergence(model) < 0.5);  // it learned from the forget answers, too
    Model short_of = taught.teacher.clone();
    const Distilled stopped = taught.run(short_of, {.student = student}, taught.training(2));
    CHECK_FALSE(stopped.within);
    CHECK(stopped.training.steps == 2);
  }
  Model model = taught.teacher.clone();
  const Distilled off = taught.run(model, {.alpha = 0, .until = 0.0}, taught.training(3));
  CHECK(off.training.steps == 3);
  CHECK(off.within);
  CHECK(UndoSettings{.student = "trained"}.bound() == 0);
  CHECK(UndoSettings{.student = "trained", .until = 0.1}.bound() == 0.1);
}

TEST_CASE("a resumed student ends bit for bit where an uninterrupted one does", "[undo]") {
  const Taught taught;
  const UndoSettings settings{.until = 0.001, .check_every = 3};
  const TrainerSettings training = taught.training(11, 3e-3);
  Model whole = taught.teacher.clone();
  const Distilled expected = taught.run(whole, settings, training);
  REQUIRE(expected.training.steps == 11);
  const fs::path state = fresh_path("state");
  Model killed = taught.teacher.clone();
  REQUIRE_THROWS_AS(taught.run(killed, settings, training,
                               {.on_step =
                                    [](const StepReport& report) {
                                      if (report.step == 7) throw std::runtime_error("killed");
                                      return true;
                                    },
                                .state = state,
                                .state_every = 5}),
                    std::runtime_error);
  REQUIRE(fs::exists(state));
  Model model = taught.teacher.clone();
  const Distilled result = taught.run(model, settings, training, {.state = state});
  CHECK(same_bits(values_of(model), values_of(whole)));
  CHECK(result.training.flops == Approx(expected.training.flops));
  CHECK_FALSE(fs::exists(state));
}

}  // namespace
}  // namespace resurface
