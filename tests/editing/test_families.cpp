// Editing on every family's tiny checkpoint: keys, values, edits and ablation by the same code.
#include <catch2/catch.hpp>

#include "core/checkpoint/checkpoint.h"
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

int64_t edited(const Model& model) { return std::max<int64_t>(0, model.layers() - 2); }

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
      const int64_t layer = edited(model);
      const auto all = family_edits();
      const EditSite where = edited_site(model, layer, all);
      at::manual_seed(3);
      const auto delta = at::randn({2, model.config().hidden_size}, at::kDouble);
      ValueSettings cached, plain;
      plain.cached = false;
      for (const auto site :
           {ValueSite::mlp_output, ValueSite::hidden, ValueSite::attention_and_mlp}) {
        const auto d =
            site == ValueSite::attention_and_mlp ? at::cat({delta * 0.5, delta}, 1) : delta;
        const auto a = value_loss(model, where, all, d, cached, site);
        const auto b = value_loss(model, where, all, d, plain, site);
        CHECK(largest_difference(a.loss, b.loss) < 1e-9);
        CHECK(largest_difference(a.gradient, b.gradient) < 1e-9);
        const auto along = at::randn_like(d);
        const double step = 1e-5;
        const auto slope = (value_loss(model, where, all, d + step * along, cached, site).loss -
                            value_loss(model, where, all, d - step * along, cached, site).loss) /
                           (2 * step);
        CHECK(largest_difference(slope, (a.gradient * along).sum(1)) < 1e-5);
      }
      plain.kl_factor = plain.weight_decay = 0;
      const auto nll = value_loss(model, where, all, delta, plain).loss;
      for (int64_t e = 0; e < 2; ++e) {
        CHECK(
            nll[e].item<double>() ==
            Approx(direct_nll(model, layer, all[static_cast<size_t>(e)], delta[e])).epsilon(1e-9));
      }
    }
  }
}

TEST_CASE("families: ROME writes v*, undoes to the bit and goes through a file", "[families]") {
  const ScratchFolder scratch;
  for (const auto& name : variants()) {
    DYNAMIC_SECTION(name) {
      auto model = Model::load(data / name);
      const std::vector one = {family_edits()[0]};
      const EditSite site = edited_site(model, edited(model), one);
      Statistics statistics({{site, at::eye(key_width(model.config(), site))}});
      RomeSettings settings;
      settings.layer = site.layer;
      settings.value.steps = 10;
      const auto file = rome(settings, model, one, statistics);
      const auto kv = keys_and_values(model, site, one, settings.value);
      const auto hash = model.content_hash();

      // By way of a file, in which it lies as the checkpoint's tensors do.
      const auto path = scratch.path / (name + ".safetensors");
      write_edit_file(path, as_stored(model, file));
      const auto read = read_edit_file(path);
      const Checkpoint checkpoint = Checkpoint::open(data / name);
      REQUIRE(read.deltas.size() == edited_parameters(model, site).size());
      for (const Delta& delta : read.deltas) {
        const auto stored = checkpoint.tensor(delta.parameter);
        CHECK(stored.size(0) == delta.left.size(0));
        CHECK(stored.size(1) == delta.right.size(1));
      }

      const auto originals = apply_edit(model, as_held(model, read), true);
      CHECK(largest_difference(mlp_output(model, site, kv.key), kv.initial + kv.delta) <
            1e-4 * (1 + kv.initial.abs().max().item<double>()));
      CHECK(model.content_hash() != hash);
      undo_edit(model, originals);
      CHECK(model.content_hash() == hash);
    }
  }
}
