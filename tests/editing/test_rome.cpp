// GCC 12 warns falsely about its own AVX-512 headers when Eigen vectorises.
#define EIGEN_DONT_VECTORIZE
#include <Eigen/Dense>
#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "editing/guard.h"
#include "editing/methods.h"
#include "editing/rome.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<const Matrix> eigen(
    const at::Tensor& x) {  // x: contiguous fp64, kept alive by the caller
  return {x.data_ptr<double>(), x.size(0), x.dim() == 2 ? x.size(1) : 1};
}

Statistics statistics(const Model& model, const std::vector<EditSite>& layers) {
  std::vector<std::vector<int64_t>> text;
  for (uint64_t s = 0; s < 30; ++s) text.push_back(random_ids(20, 100 + s));
  return Statistics(measure_covariance(model, text, layers));
}

RomeSettings at_layer(int64_t layer) {
  RomeSettings settings;
  settings.layer = layer;
  settings.ridge = 0;
  return settings;
}

at::Tensor weight_of(const Model& model, int64_t layer) {
  return model.parameter(fmt::format("model.layers.{}.mlp.down_proj.weight", layer));
}

at::Tensor update(const EditFile& edit) {
  return edit.deltas.at(0).left.to(at::kDouble).mm(edit.deltas.at(0).right.to(at::kDouble));
}

}  // namespace

TEST_CASE("ROME: u by Eigen, W'k* = v*, rank one") {
  const auto model = tiny_model();
  auto stats = statistics(model, {1});
  const auto settings = at_layer(1);
  const std::vector edits = {example("a", 1)};
  const auto file = rome(settings, model, edits, stats);
  const auto kv = keys_and_values(model, 1, edits, settings.value);
  const auto key = kv.key[0], value = kv.initial[0] + kv.delta[0];

  const auto covariance = stats.covariance(1).to(at::kDouble);
  Eigen::VectorXd u = eigen(covariance).ldlt().solve(eigen(key).col(0));
  u.normalize();
  const auto right = file.deltas.at(0).right[0].to(at::kDouble);
  CHECK((u - eigen(right).col(0)).norm() < 1e-5);
  CHECK(file.measures.at(0).key_dot_u == Approx(u.dot(eigen(key).col(0))).epsilon(1e-4));
  CHECK(file.measures[0].key_alignment == 1);

  const auto delta = update(file);
  const auto after = (weight_of(model, 1) + delta).mv(key);
  CHECK(largest_difference(after, value) < 1e-5 * value.abs().max().item<double>());
  CHECK(largest_difference(weight_of(model, 1).mv(key), value) > 1e-2);

  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(eigen(delta));
  CHECK(svd.singularValues()(1) < 1e-6 * svd.singularValues()(0));
  CHECK(file.measures[0].relative_norm ==
        Approx(svd.singularValues()(0) / weight_of(model, 1).norm().item<double>()).epsilon(1e-5));
}

TEST_CASE("ROME: an applied edit makes the target likelier; another layer's default") {
  auto model = tiny_model();
  auto stats = statistics(model, {1});
  auto settings = at_layer(-1);
  settings.ridge = 1e-5;
  CHECK(rome_layer(settings, model) == 1);  // 0.16 * 4 rounds to 1
  const std::vector edits = {example("a", 1)};
  const auto file = rome(settings, model, edits, stats);
  CHECK(file.deltas.at(0).parameter == "model.layers.1.mlp.down_proj.weight");
  const Example scored{edits[0].contexts[0].ids, edits[0].target};
  const auto batch = pack(std::span(&scored, 1));
  const at::NoGradGuard no_grad;
  const double before = model.token_nll(batch).item<double>();
  apply_edit(model, file, true);
  CHECK(model.token_nll(batch).item<double>() < before);

  settings.layer = 4;
  CHECK_THROWS_WITH(rome(settings, model, edits, stats), Catch::Contains("layers 0 .. 3"));
}

TEST_CASE("ROME: several requests are written one on the other") {
  const auto model = tiny_model();
  auto stats = statistics(model, {1});
  auto settings = at_layer(1);
  const std::vector edits = {example("a", 1), example("b", 2), example("c", 3)};
  const auto file = rome(settings, model, edits, stats);
  CHECK(file.deltas.at(0).left.sizes() == at::IntArrayRef({16, 3}));
  CHECK(file.deltas[0].right.sizes() == at::IntArrayRef({3, 24}));
  const auto kv = keys_and_values(model, 1, edits, settings.value);
  // The last one holds exactly; the first two held when they were written.
  for (int64_t e = 0; e < 3; ++e) {
    const auto partial = file.deltas[0]
                             .left.narrow(1, 0, e + 1)
                             .to(at::kDouble)
                             .mm(file.deltas[0].right.narrow(0, 0, e + 1).to(at::kDouble));
    const auto value = kv.initial[e] + kv.delta[e];
    CHECK(largest_difference((weight_of(model, 1) + partial).mv(kv.key[e]), value) <
          1e-5 * value.abs().max().item<double>());
  }

  SECTION("sequential values: the second is optimised on the model that holds the first") {
    settings.sequential_values = true;
    const auto sequential = rome(settings, model, edits, stats);
    CHECK(at::equal(sequential.deltas[0].right, file.deltas[0].right));  // keys do not change
    const auto first = [](const EditFile& f) { return f.deltas[0].left.select(1, 0); };
    CHECK(largest_difference(first(sequential), first(file)) <
          1e-5 * first(file).norm().item<double>());

    auto written = model.clone();
    apply_edit(written, rome(settings, model, std::span(edits).first(1), stats), true);
    const auto second = rome(settings, written, std::span(edits).subspan(1, 1), stats);
    CHECK(largest_difference(second.deltas[0].left.select(1, 0),
                             sequential.deltas[0].left.select(1, 1)) <
          1e-4 * second.deltas[0].left.norm().item<double>());
  }
}

TEST_CASE("ROME: edits leave no state behind, neither in the model nor in the statistics") {
  const auto model = tiny_model(at::kFloat);
  const auto hash = model.content_hash();
  auto stats = statistics(model, {1}), fresh = statistics(model, {1});
  const std::vector a = {example("a", 1)}, b = {example("b", 2)};
  rome(at_layer(1), model, a, stats);
  const auto after = rome(at_layer(1), model, b, stats);
  const auto alone = rome(at_layer(1), model, b, fresh);
  CHECK(at::equal(after.deltas[0].left, alone.deltas[0].left));
  CHECK(at::equal(after.deltas[0].right, alone.deltas[0].right));
  CHECK(model.content_hash() == hash);
}

TEST_CASE(
    "original ROME's mixed keys can disable the model; the guard sees it, R-ROME does not do it") {
  auto model = tiny_model();
  const auto hash = model.content_hash();
  const std::vector edits = {example("a", 1)};
  auto settings = at_layer(1);
  const auto kv = keys_and_values(model, 1, edits, settings.value);
  // C = B Bᵀ with B = [k, k̄, the rest] and a little mixing makes kᵀ C⁻¹ k̄ nearly zero.
  const auto both = at::stack({kv.bare_key[0], kv.key[0]}, 1);
  const auto rest = std::get<0>(at::linalg_qr(both, "complete")).narrow(1, 2, 22);
  const auto mix = at::outer(kv.bare_key[0], kv.key[0]);
  const auto covariance = both.mm(both.t()) + rest.mm(rest.t()) + 1e-3 * (mix + mix.t());
  Statistics stats({{1, covariance.to(at::kFloat)}});

  const auto repaired = rome(settings, model, edits, stats);
  settings.original_key = true;
  const auto original = rome(settings, model, edits, stats);
  CHECK(std::abs(original.measures[0].key_alignment) < 2e-3);
  CHECK(repaired.measures[0].key_alignment == 1);
  CHECK(original.measures[0].relative_norm > 50 * repaired.measures[0].relative_norm);
  // The switch reproduces ROME: W' k = v* at the bare key.
  const auto value = kv.initial[0] + kv.delta[0];
  CHECK(largest_difference((weight_of(model, 1) + update(original)).mv(kv.bare_key[0]), value) <
        1e-3 * value.abs().max().item<double>());

  GuardSettings guard;
  guard.max_relative_norm = 10 * repaired.measures[0].relative_norm;
  CHECK_NOTHROW(guard_edit(model, repaired, {}, guard));
  CHECK_THROWS_WITH(guard_edit(model, original, {}, guard),
                    Catch::Contains("k'u") && Catch::Contains("|dW| / |W|"));
  guard.force = true;
  CHECK(guard_edit(model, original, {}, guard).relative_norm ==
        Approx(original.measures[0].relative_norm));
  CHECK(model.content_hash() == hash);
}

TEST_CASE("the guard's perplexity probe refuses a ruinous edit and leaves the model as it was") {
  auto model = tiny_model(at::kFloat);
  const auto hash = model.content_hash();
  std::vector<Example> neutral;
  for (uint64_t s = 0; s < 3; ++s) neutral.push_back({random_ids(4, s), random_ids(6, s + 50)});
  EditFile edit;
  edit.deltas = {{"model.layers.3.mlp.down_proj.weight", at::zeros({16, 1}), at::ones({1, 24})}};
  GuardSettings guard;
  guard.max_relative_norm = 1e9;
  const auto none = guard_edit(model, edit, neutral, guard);
  CHECK(none.perplexity_before == none.perplexity_after);
  CHECK(none.perplexity_before == Approx(perplexity(model, neutral)));

  at::manual_seed(1);
  edit.deltas[0].left = 1e3 * at::randn({16, 1});
  guard.max_perplexity_ratio = 1e9;
  const auto report = guard_edit(model, edit, neutral, guard);
  const double ratio = report.perplexity_after / report.perplexity_before;
  CHECK(std::abs(ratio - 1) > 0.01);
  guard.max_perplexity_ratio = 0.999 * ratio;
  CHECK_THROWS_WITH(guard_edit(model, edit, neutral, guard), Catch::Contains("perplexity"));
  guard.max_perplexity_ratio = 1.001 * ratio;
  CHECK_NOTHROW(guard_edit(model, edit, neutral, guard));
  CHECK(model.content_hash() == hash);
  edit.deltas[0].left[0] = std::nan("");
  CHECK_THROWS_AS(guard_edit(model, edit, {}, guard), Error);
}

TEST_CASE("the table of editing methods runs ROME from text") {
  const ScratchFolder folder;
  const auto tokenizer = byte_tokenizer(folder.path);
  const auto model = tiny_model(at::kFloat);
  const auto& method = edit_method("rome");
  auto settings = method.defaults;
  CHECK(rome_layer(std::get<RomeSettings>(settings), model) == 1);
  auto stats = statistics(model, {1});
  const EditRequest request{.id = "r", .prompt = "Toky is", .subject = "Toky", .target = " a lake"};
  const auto file = method.run(settings, model, tokenizer, std::span(&request, 1), stats);
  CHECK(file.base_hash == model.content_hash());
  CHECK(file.requests.at(0).contexts.size() == 5);
  CHECK(nlohmann::json::parse(file.settings)["value"]["clamp"] == 4);
  CHECK_THROWS_WITH(edit_method("rmoe"), Catch::Contains("rome"));
}
