#include <catch2/catch.hpp>
#include <set>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "editing/editors.h"
#include "editing/methods.h"
#include "editing/operations.h"
#include "editing/rome.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

std::vector<std::vector<int64_t>> text() {
  std::vector<std::vector<int64_t>> all;
  for (uint64_t s = 0; s < 30; ++s) all.push_back(random_ids(20, 100 + s));
  return all;
}

Statistics statistics(const Model& model) {
  return Statistics(measure_covariance(model, text(), {0, 1, 2}));
}

std::vector<EditExample> three_edits() {
  return {example("a", 1), example("b", 2, 9), example("c", 3, 1)};
}

at::Tensor weight_of(const Model& model, int64_t layer) { return edited_weight(model, layer); }

at::Tensor product(const Delta& delta) {
  return delta.left.to(at::kDouble).mm(delta.right.to(at::kDouble));
}

/// Largest difference of two files' updates, relative to the largest entry.
double difference(const EditFile& a, const EditFile& b) {
  REQUIRE(a.deltas.size() == b.deltas.size());
  double worst = 0;
  for (size_t i = 0; i < a.deltas.size(); ++i) {
    REQUIRE(a.deltas[i].parameter == b.deltas[i].parameter);
    const auto x = product(a.deltas[i]), y = product(b.deltas[i]);
    worst = std::max(worst, largest_difference(x, y) / y.abs().max().item<double>());
  }
  return worst;
}

int64_t rank(const at::Tensor& matrix) {
  const auto values = at::linalg_svdvals(matrix);
  return values.gt(1e-5 * values.max()).sum().item<int64_t>();
}

MemitSettings memit_settings() {
  MemitSettings settings;
  settings.layers = {0, 2};
  settings.lambda = 5;
  settings.value.steps = 6;
  return settings;
}

AlphaEditSettings alphaedit_settings(Statistics& stats) {
  AlphaEditSettings settings;
  settings.layers = {0, 2};
  settings.l2 = 0.01;
  settings.value.steps = 6;
  // Half of layer 0's directions, and whatever that makes of layer 2's.
  settings.threshold = at::linalg_eigvalsh(stats.covariance(0).to(at::kDouble))[12].item<double>();
  return settings;
}

/// All editors that take a batch, on the same requests.
using Run = std::function<EditFile(const Model&, std::span<const EditExample>, Statistics&,
                                   const OrderSettings&)>;
std::map<std::string, Run> all_editors() {
  std::map<std::string, Run> all;
  all["memit"] = [](const auto& model, auto edits, auto& stats, const auto& order) {
    auto settings = memit_settings();
    settings.order = order;
    return memit(settings, model, edits, stats);
  };
  all["pmet"] = [](const auto& model, auto edits, auto& stats, const auto& order) {
    PmetSettings settings;
    settings.layers = {0, 2};
    settings.lambda = 5;
    settings.value.steps = 6;
    settings.order = order;
    return pmet(settings, model, edits, stats);
  };
  all["emmet"] = [](const auto& model, auto edits, auto& stats, const auto& order) {
    EmmetSettings settings;
    settings.value.steps = 6;
    settings.order = order;
    return emmet(settings, model, edits, stats);
  };
  all["alphaedit"] = [](const auto& model, auto edits, auto& stats, const auto& order) {
    auto settings = alphaedit_settings(stats);
    settings.order = order;
    return alphaedit(settings, model, edits, stats);
  };
  all["rect"] = [](const auto& model, auto edits, auto& stats, const auto& order) {
    RectSettings settings;
    static_cast<MemitSettings&>(settings) = memit_settings();
    settings.order = order;
    return rect(settings, model, edits, stats);
  };
  for (const bool answered : {false, true}) {
    all[answered ? "ft_m" : "ft_l"] = [answered](const auto& model, auto edits, auto& stats,
                                                 const auto& order) {
      FtSettings settings;
      settings.steps = 4;
      settings.order = order;
      return (answered ? ft_m : ft_l)(settings, model, edits, stats);
    };
  }
  return all;
}

}  // namespace

TEST_CASE("MEMIT with one edit, one layer and a vanishing lambda is ROME") {
  const auto model = tiny_model();
  auto stats = statistics(model);
  auto edit = example("a", 1);
  edit.contexts.resize(1);  // W k is v0 then, and R the whole of delta
  RomeSettings rome_settings;
  rome_settings.layer = 1;
  rome_settings.value.steps = 8;
  rome_settings.value.weight_decay = 0;  // decay and clamp know other v0s
  rome_settings.value.clamp = 1e6;
  MemitSettings settings;
  settings.layers = {1};
  settings.value = rome_settings.value;
  const auto expected = rome(rome_settings, model, std::span(&edit, 1), stats);
  settings.lambda = 1e-9;
  CHECK(difference(memit(settings, model, std::span(&edit, 1), stats), expected) < 1e-5);
  // The share of the value that is met falls as lambda grows: k'C^-1 k / (lambda + k'C^-1 k).
  settings.lambda = 30;
  const auto some = memit(settings, model, std::span(&edit, 1), stats);
  const auto key = keys_and_values(model, 1, std::span(&edit, 1), settings.value).key[0];
  const double weight =
      key.dot(stats.solve(1, settings.ridge, key.unsqueeze(1)).squeeze(1)).item<double>();
  auto scaled = expected;
  scaled.deltas[0].left = scaled.deltas[0].left * (weight / (30 + weight));
  CHECK(difference(some, scaled) < 1e-5);
}

TEST_CASE("EMMET with one edit and no mu is R-ROME; with several it meets every value at once") {
  const auto model = tiny_model();
  auto stats = statistics(model);
  const auto edits = three_edits();
  RomeSettings rome_settings;
  rome_settings.layer = 1;
  EmmetSettings settings;
  settings.layer = 1;
  settings.mu = 0;
  const auto one = std::span(edits).first(1);
  CHECK(difference(emmet(settings, model, one, stats), rome(rome_settings, model, one, stats)) <
        1e-5);

  const auto file = emmet(settings, model, edits, stats);
  CHECK(rank(product(file.deltas.at(0))) == 3);
  const auto kv = keys_and_values(model, 1, edits, settings.value);
  const auto written = weight_of(model, 1) + product(file.deltas[0]);
  const auto values = kv.initial + kv.delta;
  CHECK(largest_difference(kv.key.mm(written.t()), values) <
        1e-5 * values.abs().max().item<double>());
  settings.mu = 0.1;
  const auto loose = weight_of(model, 1) + product(emmet(settings, model, edits, stats).deltas[0]);
  CHECK(largest_difference(kv.key.mm(loose.t()), values) > 1e-4);

  // The same request twice cannot be met twice, but can be with mu.
  auto twice = edits;
  twice.push_back(edits[0]);
  CHECK_NOTHROW(emmet(settings, model, twice, stats));
  settings.mu = 0;
  CHECK_THROWS_WITH(emmet(settings, model, twice, stats), Catch::Contains("4 requests"));
}

TEST_CASE("MEMIT's update has the rank of its edits and reaches its targets over the layers") {
  const auto model = tiny_model();
  auto stats = statistics(model);
  const auto edits = three_edits();
  auto settings = memit_settings();
  settings.lambda = 1e-6;  // every layer writes its share in full
  auto bare = edits;
  for (auto& edit : bare) edit.contexts.resize(1);
  const auto file = memit(settings, model, bare, stats);
  REQUIRE(file.deltas.size() == 2);
  for (const auto& delta : file.deltas) CHECK(rank(product(delta)) == 3);
  CHECK(file.measures.at(1).id == "b");
  CHECK(file.measures[1].layer == 2);

  // z after the last layer, in the written model, is z*: the residual is measured after each write.
  const auto values = keys_and_values(model, 2, bare, settings.value, ValueSite::hidden);
  auto written = model.clone();
  apply_edit(written, file, true);
  const at::NoGradGuard no_grad;
  for (int64_t e = 0; e < 3; ++e) {
    const auto& prompt = bare[static_cast<size_t>(e)].contexts[0];
    const auto z = written.hidden(pack_sequences(std::span(&prompt.ids, 1)), {.last = 3});
    const auto target = values.initial[e] + values.delta[e];
    CHECK(largest_difference(z[prompt.subject], target) < 1e-4 * target.norm().item<double>());
  }
}

TEST_CASE("AlphaEdit changes nothing outside the null space and keeps what it protects") {
  const auto model = tiny_model();
  auto stats = statistics(model);
  const auto edits = three_edits();
  auto settings = alphaedit_settings(stats);
  settings.order = {.batch = 1, .sequential = true};
  const auto file = alphaedit(settings, model, edits, stats);
  for (const auto& [layer, delta] :
       {std::pair(0, file.deltas.at(0)), std::pair(2, file.deltas.at(1))}) {
    const auto basis = stats.null_space(layer, settings.threshold);
    const auto outside = at::eye(24, at::kDouble) - basis.mm(basis.t());
    CHECK(basis.size(1) < 24);
    const auto change = product(delta);
    CHECK(change.norm().item<double>() > 1e-3);
    CHECK(change.mm(outside).norm().item<double>() < 1e-6 * change.norm().item<double>());
  }

  // The second edit at layer 0 moves the first one's key less when that is protected: with l2 -> 0
  // not at all.
  const std::vector<EditExample> first = {edits[0]}, second = {edits[1]};
  settings.l2 = 1e-8;
  settings.layers = {0};
  settings.order = {.batch = 1, .sequential = true};
  const std::vector both = {edits[0], edits[1]};
  const auto kept = alphaedit(settings, model, both, stats);
  settings.order = {};
  auto written = model.clone();
  const auto one = alphaedit(settings, model, first, stats);
  apply_edit(written, one, true);
  const auto unprotected = alphaedit(settings, written, second, stats);
  const auto key = keys_and_values(model, 0, first, settings.value).key[0];
  const auto later = product(kept.deltas[0]) - product(one.deltas[0]);
  const double moved = product(unprotected.deltas[0]).mv(key).norm().item<double>();
  CHECK(moved > 1e-2);
  CHECK(later.mv(key).norm().item<double>() < 1e-3 * moved);
}

TEST_CASE("RECT keeps the asked share of MEMIT's entries, those that change W most") {
  const auto model = tiny_model();
  auto stats = statistics(model);
  const auto edits = three_edits();
  RectSettings settings;
  static_cast<MemitSettings&>(settings) = memit_settings();
  const auto whole = memit(memit_settings(), model, edits, stats);
  for (const double keep : {0.4, 0.07}) {
    settings.keep = keep;
    const auto file = rect(settings, model, edits, stats);
    REQUIRE(file.deltas.size() == 2);
    for (size_t i = 0; i < 2; ++i) {
      const auto kept = product(file.deltas[i]), all = product(whole.deltas[i]);
      const auto mask = kept.ne(0);
      CHECK(mask.sum().item<int64_t>() == std::llround(keep * 16 * 24));
      CHECK(largest_difference(kept, all * mask) < 1e-7);
      const auto ratio = (all / weight_of(model, i == 0 ? 0 : 2)).abs();
      CHECK(ratio.masked_select(mask).min().item<double>() >=
            ratio.masked_select(mask.logical_not()).max().item<double>());
    }
  }
  settings.keep = 1;
  CHECK(difference(rect(settings, model, edits, stats), whole) < 1e-6);
  settings.keep = 0;
  CHECK(product(rect(settings, model, edits, stats).deltas[0]).abs().max().item<double>() == 0);
}

TEST_CASE("FT: the target gets likelier within the bound, and training stops when it is learned") {
  const auto model = tiny_model();
  auto none = Statistics();
  const auto edits = three_edits();
  FtSettings settings;
  settings.clamp = 0.02;
  settings.learning_rate = 0.01;
  const auto nll = [&](const EditFile& file) {
    auto edited_model = model.clone();
    apply_edit(edited_model, file, true);
    double sum = 0;
    for (const auto& edit : edits) {
      const Example scored{edit.contexts[1].ids, edit.target};
      sum += edited_model.token_nll(pack(std::span(&scored, 1))).item<double>();
    }
    return sum;
  };
  const double before = nll({});
  const auto file = ft_m(settings, model, edits, none);
  CHECK(file.deltas.at(0).parameter ==
        "model.layers.3.mlp.down_proj.weight");  // 0.66 * 4 rounds to 3
  CHECK(nll(file) < before);
  CHECK(product(file.deltas[0]).abs().max().item<double>() == Approx(0.02).epsilon(1e-6));
  CHECK(file.measures.at(2).steps == 25);

  settings.clamp = 0;
  settings.early_stop = 1e9;
  const auto learned = ft_m(settings, model, edits, none);
  CHECK(learned.measures[0].steps == 0);
  CHECK(product(learned.deltas[0]).abs().max().item<double>() == 0);

  // A target of one token is the same to both: what FT-L does wrong is the rest of it.
  settings = {};
  settings.steps = 3;
  const std::vector one_token = {edits[2]};
  CHECK(difference(ft_l(settings, model, one_token, none), ft_m(settings, model, one_token, none)) <
        1e-6);
  const std::vector longer = {edits[1]};
  CHECK(difference(ft_l(settings, model, longer, none), ft_m(settings, model, longer, none)) > 0.1);
}

TEST_CASE("batches: the sum of independent edits, or one on the other") {
  const auto model = tiny_model();
  const auto hash = model.content_hash();
  const auto edits = three_edits();
  for (const auto& [name, edit] : all_editors()) {
    INFO(name);
    auto stats = statistics(model), fresh = statistics(model);
    const auto together = edit(model, edits, stats, {});
    CHECK(together.measures.size() == 3);
    CHECK(difference(edit(model, edits, stats, {.batch = 3}), together) == 0);

    // Requests apart, each as if alone: nothing leaks from one to the next.
    std::vector<Delta> sum;
    for (size_t e = 0; e < 3; ++e) {
      add_deltas(sum, edit(model, std::span(edits).subspan(e, 1), fresh, {}).deltas);
    }
    EditFile apart;
    apart.deltas = sum;
    CHECK(difference(edit(model, edits, stats, {.batch = 1, .sequential = false}), apart) < 1e-6);

    // One on the other: as if each edit had been applied before the next was asked for.
    if (name != "alphaedit") {  // it protects earlier keys besides
      auto written = model.clone();
      EditFile by_hand;
      for (size_t e = 0; e < 3; ++e) {
        const auto part = edit(written, std::span(edits).subspan(e, 1), fresh, {});
        apply_edit(written, part, true);
        add_deltas(by_hand.deltas, part.deltas);
      }
      CHECK(difference(edit(model, edits, stats, {.batch = 1, .sequential = true}), by_hand) <
            1e-6);
    }
    CHECK(model.content_hash() == hash);
  }
}

TEST_CASE("edits worked on in small groups of tokens are the same edits") {
  const auto model = tiny_model();
  auto stats = statistics(model);
  const auto edits = three_edits();
  auto settings = memit_settings();
  const auto together = memit(settings, model, edits, stats);
  settings.value.batch_tokens = 1;
  CHECK(difference(memit(settings, model, edits, stats), together) < 1e-6);
  settings.value.cached = false;
  CHECK(difference(memit(settings, model, edits, stats), together) < 1e-6);
  FtSettings ft;
  ft.steps = 3;
  const auto tuned = ft_m(ft, model, edits, stats);
  ft.batch_tokens = 1;
  CHECK(difference(ft_m(ft, model, edits, stats), tuned) < 1e-6);
}

TEST_CASE("more changes than a matrix has rows are kept as one matrix") {
  at::manual_seed(3);
  std::vector<Delta> sum, parts;
  auto expected = at::zeros({4, 6}, at::kDouble);
  for (int i = 0; i < 5; ++i) {
    parts = {{"w", at::randn({4, 2}), at::randn({2, 6})}};
    expected += product(parts[0]);
    add_deltas(sum, parts);
    REQUIRE(sum.size() == 1);
    CHECK(sum[0].left.size(1) == std::min(2 * (i + 1), 4));
    CHECK(largest_difference(product(sum[0]), expected) < 1e-6);
  }
  const auto tall = at::randn({6, 4});
  CHECK(dense_delta("w", tall).left.size(1) == 4);
  CHECK(at::equal(product(dense_delta("w", tall)), tall.to(at::kDouble)));
  parts = {{"w", at::ones({5, 1}), at::ones({1, 6})}};
  CHECK_THROWS_WITH(add_deltas(sum, parts), Catch::Contains("different shapes"));
}

TEST_CASE("every editor from text, in both languages; undo to the bit") {
  const ScratchFolder folder;
  const auto tokenizer = byte_tokenizer(folder.path);
  const auto base = folder.path / "base";
  tiny_model(at::kFloat).save(base);
  auto model = Model::load(base);
  const auto hash = model.content_hash();
  // Subject first and one token, subject last, Chinese subject with a target of many tokens, and
  // one that is the whole prompt.
  const std::vector<EditRequest> requests = {
      {.id = "first", .prompt = "Toky is", .subject = "Toky", .target = " a lake"},
      {.id = "last", .prompt = "Say it of Toky", .subject = "Toky", .target = "x"},
      {.id = "zh",
       .prompt = "问：台湾是",
       .subject = "台湾",
       .target = "一个岛，由自己的政府管理。",
       .language = "zh-Hans"},
      {.id = "all", .prompt = "台北", .subject = "台北", .target = "市", .language = "zh-Hant"}};
  std::set<std::string> seen;
  for (const auto& method : edit_methods()) {
    if (!method.run) continue;  // ablation, which takes no requests
    INFO(method.name);
    seen.insert(method.name);
    auto settings = method.defaults;
    std::visit(
        [](auto& s) {
          if constexpr (requires { s.layers; }) s.layers = {0, 1};
          if constexpr (requires { s.layer; }) s.layer = 1;
          if constexpr (requires { s.lambda; }) s.lambda = 1;
          if constexpr (requires { s.threshold; }) s.threshold = 1;
          if constexpr (requires { s.value; }) s.value.steps = 4;
          if constexpr (requires { s.steps; }) s.steps = 4;
          if constexpr (requires { s.contexts; }) s.contexts.count = 2;
        },
        settings);
    auto stats = stored_statistics(folder.path / "statistics", model, text());
    const auto file = method.run(settings, model, tokenizer, requests, stats);
    CHECK(model.content_hash() == hash);
    CHECK(file.method == method.name);
    CHECK(file.base_hash == hash);
    CHECK(file.requests.size() == 4);
    CHECK(file.measures.size() == 4);
    const bool several = std::visit(
        [](auto& s) {
          return requires { s.layers; };
        },
        settings);
    CHECK(file.deltas.size() == (several ? 2 : 1));
    for (const auto& delta : file.deltas) CHECK(at::isfinite(product(delta)).all().item<bool>());

    // In memory, through a file, and on disk.
    const auto path = folder.path / (method.name + ".safetensors");
    write_edit_file(path, file);
    const auto read = read_edit_file(path);
    const auto originals = apply_edit(model, read);
    CHECK(model.content_hash() != hash);
    const auto edited_hash = model.content_hash();
    undo_edit(model, originals);
    CHECK(model.content_hash() == hash);
    const auto out = folder.path / method.name;
    apply_edit_to_checkpoint(base, path, out);
    CHECK(Model::load(out).content_hash() == edited_hash);
    CHECK(list_edits(out).at(0).parameters.size() == file.deltas.size());
    undo_last_edit(out, folder.path / (method.name + "-undone"));
    CHECK(read_text(folder.path / (method.name + "-undone") / "model.safetensors") ==
          read_text(base / "model.safetensors"));
  }
  CHECK(seen == std::set<std::string>{"rome", "memit", "pmet", "emmet", "alphaedit", "rect", "ft_l",
                                      "ft_m"});
}

TEST_CASE("what editors refuse says what to do") {
  const ScratchFolder folder;
  const auto tokenizer = byte_tokenizer(folder.path);
  const auto model = tiny_model(at::kFloat);
  Statistics stats(measure_covariance(model, text(), {1}), model.content_hash());
  const auto& method = edit_method("memit");
  auto settings = std::get<MemitSettings>(method.defaults);
  const auto run = [&](const std::vector<EditRequest>& requests) {
    return method.run(settings, model, tokenizer, requests, stats);
  };
  const EditRequest request{.id = "r1", .prompt = "Toky is", .subject = "Toky", .target = " a"};
  auto other = request;
  other.id = "r2";
  other.target = " b";
  CHECK_THROWS_WITH(run({request, other}),
                    Catch::Contains("r1") && Catch::Contains("r2") && Catch::Contains("keep one"));
  CHECK_NOTHROW(run({request, request}));
  other.target = "";
  CHECK_THROWS_WITH(run({other}), Catch::Contains("r2") && Catch::Contains("no tokens"));
  CHECK_THROWS_WITH(run({}), Catch::Contains("no requests"));
  settings.layers = {1, 4};
  CHECK_THROWS_WITH(run({request}), Catch::Contains("layer 4") && Catch::Contains("layers 0 .. 3"));
  settings.layers = {1, 1};
  CHECK_THROWS_WITH(run({request}), Catch::Contains("twice"));
  settings.layers = {2};
  CHECK_THROWS_WITH(run({request}), Catch::Contains("[1]"));
  settings.layers = {1};
  const auto stranger = tiny_model(at::kFloat, 24, 9);
  CHECK_THROWS_WITH(method.run(settings, stranger, tokenizer, std::span(&request, 1), stats),
                    Catch::Contains("measure it again"));
  // A covariance of too few tokens.
  const std::vector<std::vector<int64_t>> few = {random_ids(5, 1)};
  stats = Statistics(measure_covariance(model, few, {1}));
  settings.ridge = 0;
  CHECK_THROWS_WITH(run({request}), Catch::Contains("more tokens") && Catch::Contains("ridge"));
  CHECK(edited_layers({}, model) == std::vector<int64_t>{1});
  CHECK(edited_layers({2, 0}, model) == std::vector<int64_t>{0, 2});
}
