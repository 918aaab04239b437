// Editing on every family's tiny checkpoint: keys, values, edits and ablation by the same code.
#include <catch2/catch.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "editing/ablation.h"
#include "editing/editors.h"
#include "editing/keys_values.h"
#include "editing/rome.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

namespace fs = std::filesystem;

const fs::path data = fs::path(RESURFACE_TEST_DATA) / "families";

std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(data)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<int64_t> ids(int64_t count, uint64_t seed) {
  auto all = random_ids(count, seed);
  for (auto& id : all) id %= 48;
  return all;
}

/// A subject that comes first, one in the middle, one that is the whole prompt, one at the end; a
/// target of one token and of several.
std::vector<EditExample> edits() {
  std::vector<EditExample> all(2);
  all[0].id = "a";
  all[0].contexts = {{ids(6, 1), 2}, {ids(9, 2), 0}, {ids(4, 3), 3}};
  all[0].target = ids(3, 4);
  all[0].kl = {ids(5, 5), 2};
  all[1].id = "b";
  all[1].contexts = {{{7}, 0}};
  all[1].target = {11};
  all[1].kl = {{7, 8, 9}, 0};
  return all;
}

/// The layer that an editor may take: the last but one that has a projection for every token.
std::optional<int64_t> edited(const ModelConfig& config) {
  for (int64_t layer = config.layers - 2; layer >= 0; --layer) {
    if (config.key_width(layer) > 0) return layer;
  }
  return std::nullopt;
}

/// NLL of an edit's targets when δ is added to what the MLP gives at the subject, one sequence
/// after another, block by block.
double direct_nll(const Model& model, int64_t layer, const EditExample& edit,
                  const at::Tensor& delta) {
  const at::NoGradGuard no_grad;
  double nll = 0;
  for (const auto& context : edit.contexts) {
    auto all = context.ids;
    all.insert(all.end(), edit.target.begin(), edit.target.end() - 1);
    const auto batch = pack_sequences(std::span(&all, 1));
    at::Tensor middle, output;
    HiddenOptions options{.last = layer + 1};
    options.on_attention = [&](int64_t l, const at::Tensor&, const at::Tensor& m,
                               const at::Tensor&) {
      if (l == layer) middle = m;
    };
    options.on_mlp = [&](int64_t l, const at::Tensor& y) {
      if (l == layer) output = y.clone();
    };
    model.hidden(batch, options);
    output[context.subject] += delta;
    const auto after = model.add_mlp(layer, middle, output);
    const auto logp =
        model.logits(model.hidden(batch, {.first = layer + 1, .start = after})).log_softmax(1);
    for (size_t t = 0; t < edit.target.size(); ++t) {
      const auto row = static_cast<int64_t>(context.ids.size() + t) - 1;
      nll -= logp[row][edit.target[t]].item<double>() /
             static_cast<double>(edit.target.size() * edit.contexts.size());
    }
  }
  return nll;
}

}  // namespace

TEST_CASE("families: values cached, uncached and computed directly are equal", "[families]") {
  for (const auto& name : variants()) {
    DYNAMIC_SECTION(name) {
      const auto model = Model::load(data / name, at::kCPU, at::kDouble);
      const auto layer = edited(model.config());
      if (!layer) continue;
      const auto all = edits();
      at::manual_seed(3);
      const auto delta = at::randn({2, model.config().hidden_size}, at::kDouble);
      ValueSettings cached, plain;
      plain.cached = false;
      for (const auto site :
           {ValueSite::mlp_output, ValueSite::hidden, ValueSite::attention_and_mlp}) {
        const auto d =
            site == ValueSite::attention_and_mlp ? at::cat({delta * 0.5, delta}, 1) : delta;
        const auto a = value_loss(model, *layer, all, d, cached, site);
        const auto b = value_loss(model, *layer, all, d, plain, site);
        CHECK(largest_difference(a.loss, b.loss) < 1e-9);
        CHECK(largest_difference(a.gradient, b.gradient) < 1e-9);
        const auto along = at::randn_like(d);
        const double step = 1e-5;
        const auto slope = (value_loss(model, *layer, all, d + step * along, cached, site).loss -
                            value_loss(model, *layer, all, d - step * along, cached, site).loss) /
                           (2 * step);
        CHECK(largest_difference(slope, (a.gradient * along).sum(1)) < 1e-5);
      }
      plain.kl_factor = plain.weight_decay = 0;
      const auto nll = value_loss(model, *layer, all, delta, plain).loss;
      for (int64_t e = 0; e < 2; ++e) {
        CHECK(
            nll[e].item<double>() ==
            Approx(direct_nll(model, *layer, all[static_cast<size_t>(e)], delta[e])).epsilon(1e-9));
      }
    }
  }
}

TEST_CASE("families: ROME writes v*, undoes to the bit and goes through a file", "[families]") {
  const ScratchFolder scratch;
  for (const auto& name : variants()) {
    DYNAMIC_SECTION(name) {
      auto model = Model::load(data / name);
      const auto layer = edited(model.config());
      if (!layer) continue;
      const int64_t width = model.config().key_width(*layer);
      Statistics statistics({{*layer, at::eye(width)}});
      RomeSettings settings;
      settings.layer = *layer;
      settings.value.steps = 10;
      const std::vector one = {edits()[0]};
      const auto file = rome(settings, model, one, statistics);
      const auto kv = keys_and_values(model, *layer, one, settings.value);
      const auto hash = model.content_hash();

      // By way of a file, in which it lies as the checkpoint's tensors do.
      const auto path = scratch.path / (name + ".safetensors");
      write_edit_file(path, as_stored(model, file));
      const auto read = read_edit_file(path);
      const Checkpoint checkpoint = Checkpoint::open(data / name);
      const auto stored = checkpoint.tensor(read.deltas.at(0).parameter);
      CHECK(stored.size(0) == read.deltas[0].left.size(0));
      CHECK(stored.size(1) == read.deltas[0].right.size(1));

      const auto originals = apply_edit(model, as_held(model, read), true);
      CHECK(largest_difference(mlp_output(model, *layer, kv.key), kv.initial + kv.delta) <
            1e-4 * (1 + kv.initial.abs().max().item<double>()));
      CHECK(model.content_hash() != hash);
      undo_edit(model, originals);
      CHECK(model.content_hash() == hash);
    }
  }
}

TEST_CASE("families: a layer of routed experts alone is refused by name", "[families]") {
  const auto model = Model::load(data / "qwen3_moe");
  int64_t layer = 0;
  while (model.config().key_width(layer) > 0) ++layer;
  CHECK_THROWS_WITH(edited_layer(layer, 0, model), Catch::Contains("routed experts alone"));
  const std::vector<std::vector<int64_t>> corpus = {ids(9, 1)};
  CHECK_THROWS_WITH(measure_covariance(model, corpus, {layer}),
                    Catch::Contains("routed experts alone"));
}
