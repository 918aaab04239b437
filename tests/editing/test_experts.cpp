// Editing layers of routed experts alone, held to what their weights give by hand.
#include <catch2/catch.hpp>
#include <set>

#include "core/run/error.h"
#include "editing/editors.h"
#include "editing/rome.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

namespace fs = std::filesystem;

const std::vector<std::string> variants = {"qwen3_moe", "qwen3_moe_plain", "minimax", "minimax_m1",
                                           "minimax_m2"};

Model load(const std::string& name) {
  return Model::load(fs::path(RESURFACE_TEST_DATA) / "families" / name, at::kCPU, at::kDouble);
}

/// The last but one, which has routed experts alone in all of them.
int64_t edited(const Model& model) { return model.layers() - 2; }

std::vector<std::vector<int64_t>> corpus() {
  std::vector<std::vector<int64_t>> all;
  for (uint64_t s = 0; s < 24; ++s) all.push_back(family_ids(5 + static_cast<int64_t>(s % 7), s));
  return all;
}

/// Two requests of a prompt each.
std::vector<EditExample> bare_edits() {
  auto all = family_edits();
  all[0].contexts.resize(1);
  return all;
}

struct Mixture {
  at::Tensor key;     ///< [N, experts · width] of every expert
  at::Tensor output;  ///< [N, d]
};

/// Token by token from the weights; of the model's own code only the stream that the MLP reads.
Mixture by_hand(const Model& model, int64_t layer, std::span<const std::vector<int64_t>> text) {
  const at::NoGradGuard no_grad;
  at::Tensor read;
  HiddenOptions options{.last = layer + 1};
  options.on_attention = [&](int64_t l, const at::Tensor&, const at::Tensor&, const at::Tensor& x) {
    if (l == layer) read = x;
  };
  model.hidden(pack_sequences(text), options);
  const Block& block = model.block(layer);
  const Experts& e = *model.config().experts;
  const auto x =
      read / (read.square().mean(1, true) + model.config().norm_eps).sqrt() * block.mlp_norm.weight;
  const auto logits = x.mm(block.router.weight.t());
  const auto scores = e.sigmoid ? 1 / (1 + (-logits).exp()) : at::softmax(logits, 1);
  const auto choice = e.bias ? scores + block.router_bias : scores;
  Mixture all{at::zeros({x.size(0), e.count * e.width}, at::kDouble), at::zeros_like(x)};
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto best = choice[t].argsort(0, /*descending=*/true).narrow(0, 0, e.per_token);
    const double sum = e.normalise ? scores[t].index_select(0, best).sum().item<double>() : 1;
    for (int64_t i = 0; i < e.per_token; ++i) {
      const auto expert = best[i].item<int64_t>();
      const Mlp& mlp = block.experts[static_cast<size_t>(expert)];
      const auto gate = mlp.gate.weight.mv(x[t]);
      const auto active = gate / (1 + (-gate).exp()) * mlp.up.weight.mv(x[t]);
      const auto part = scores[t][expert] / sum * e.scale * active;
      all.key[t].narrow(0, expert * e.width, e.width).copy_(part);
      all.output[t] += mlp.down.weight.mv(part);
    }
  }
  return all;
}

/// The columns of some experts among those of all.
at::Tensor columns(const Model& model, const std::vector<int64_t>& experts, const at::Tensor& key) {
  const int64_t width = model.config().experts->width;
  std::vector<at::Tensor> parts;
  for (const int64_t e : experts) parts.push_back(key.narrow(1, e * width, width));
  return at::cat(parts, 1);
}

/// By hand: averaged keys of all experts [n, experts · width], the bare prompts' outputs [n, d],
/// and which experts the subjects choose.
struct Subjects {
  std::vector<at::Tensor> keys, outputs;
  std::set<int64_t> experts;
};
Subjects subjects(const Model& model, int64_t layer, std::span<const EditExample> edits) {
  Subjects all;
  const int64_t width = model.config().experts->width;
  for (const EditExample& edit : edits) {
    std::vector<at::Tensor> keys;
    for (const auto& context : edit.contexts) {
      const auto [key, output] = by_hand(model, layer, std::span(&context.ids, 1));
      keys.push_back(key[context.subject]);
      if (keys.size() == 1) all.outputs.push_back(output[context.subject]);
      for (int64_t e = 0; e < model.config().experts->count; ++e) {
        if (keys.back().narrow(0, e * width, width).any().item<bool>()) all.experts.insert(e);
      }
    }
    all.keys.push_back(at::stack(keys).mean(0));
  }
  return all;
}

/// The change of every expert's columns side by side, [d, experts · width].
at::Tensor whole_change(const Model& model, int64_t layer, const EditFile& file) {
  std::vector<at::Tensor> parts;
  for (const Mlp& expert : model.block(layer).experts) {
    parts.push_back(at::zeros_like(expert.down.weight));
    for (const Delta& delta : file.deltas) {
      if (delta.parameter != expert.down.name + ".weight") continue;
      parts.back() += delta.left.to(at::kDouble).mm(delta.right.to(at::kDouble));
    }
  }
  return at::cat(parts, 1);
}

/// What the MLP gives, and the stream after the block, at the subject of a bare prompt.
std::pair<at::Tensor, at::Tensor> at_subject(const Model& model, int64_t layer,
                                             const EditExample& edit) {
  const at::NoGradGuard no_grad;
  at::Tensor output;
  HiddenOptions options{.last = layer + 1};
  options.on_mlp = [&](int64_t l, const at::Tensor& y) {
    if (l == layer) output = y;
  };
  const auto& [ids, subject] = edit.contexts.at(0);
  const auto stream = model.hidden(pack_sequences(std::span(&ids, 1)), options);
  return {output[subject].clone(), stream[subject].clone()};
}

double scale(const at::Tensor& x) { return x.abs().max().item<double>(); }

}  // namespace

TEST_CASE("experts: a site has those that the subjects choose, and their weighted activations") {
  for (const auto& name : variants) {
    DYNAMIC_SECTION(name) {
      const auto model = load(name);
      const int64_t layer = edited(model);
      REQUIRE(model.config().key_width(layer) == 0);
      const auto edits = family_edits();
      const EditSite site = edited_site(model, layer, edits);
      const auto hand = subjects(model, layer, edits);
      CHECK(site.experts == std::vector<int64_t>(hand.experts.begin(), hand.experts.end()));

      ValueSettings settings;
      settings.steps = 1;
      const auto kv = keys_and_values(model, site, edits, settings);
      CHECK(largest_difference(kv.key, columns(model, site.experts, at::stack(hand.keys))) < 1e-10);
      CHECK(largest_difference(kv.initial, at::stack(hand.outputs)) < 1e-10);
      CHECK(largest_difference(mlp_output(model, site, kv.bare_key), kv.initial) < 1e-10);
      for (int64_t e = 0; e < 2; ++e) {
        const auto real = at_subject(model, layer, edits[static_cast<size_t>(e)]).first;
        CHECK(largest_difference(real, kv.initial[e]) < 1e-10);
      }

      const auto text = corpus();
      const auto key = columns(model, site.experts, by_hand(model, layer, text).key);
      const auto expected = key.t().mm(key) / static_cast<double>(key.size(0));
      const auto found = measure_covariance(model, text, {site}, 50).at(site);
      CHECK(largest_difference(found, expected) < 1e-5 * scale(expected));
    }
  }
}

TEST_CASE("experts: MEMIT solves the normal equations in which other experts' columns are fixed") {
  for (const auto& name : variants) {
    DYNAMIC_SECTION(name) {
      const auto model = load(name);
      const int64_t layer = edited(model);
      const auto edits = family_edits();
      const EditSite site = edited_site(model, layer, edits);
      const auto key = by_hand(model, layer, corpus()).key;  // of every expert
      const auto covariance = key.t().mm(key) / static_cast<double>(key.size(0));
      const auto keys = at::stack(subjects(model, layer, edits).keys).t();

      MemitSettings settings;
      settings.layers = {layer};
      settings.lambda = 0.5;
      settings.ridge = 1e-2;
      settings.value.steps = 6;
      Statistics statistics(measure_covariance(model, corpus(), {site}));
      const auto file = memit(settings, model, edits, statistics);
      const auto change = whole_change(model, layer, file);
      REQUIRE(scale(change) > 1e-4);

      // With P the columns that may change, (λ C + λ ρ I + K K') over P by LU.
      const auto unit = at::eye(key.size(1), at::kDouble);
      const auto p = columns(model, site.experts, unit);  // [experts · width, site's width]
      const auto c = p.t().mm(covariance).mm(p);
      const auto ridge = settings.ridge * c.diagonal().mean();
      const auto left =
          settings.lambda * (c + ridge * p.t().mm(p)) + p.t().mm(keys.mm(keys.t())).mm(p);
      const auto kv = keys_and_values(model, site, edits, settings.value, ValueSite::hidden);
      const auto values = kv.delta / model.config().mlp_residual.beta;  // R, of the MLP's output
      const auto solved = at::linalg_solve(left, p.t().mm(keys).mm(values));
      const auto expected = p.mm(solved).t();
      CHECK(largest_difference(change, expected) < 2e-4 * scale(expected));

      // The equations themselves, over the columns of all experts: zero where the change is free.
      const auto slope = settings.lambda * (change.mm(covariance) + ridge * change) +
                         (change.mm(keys) - values.t()).mm(keys.t());
      CHECK(scale(slope.mm(p)) < 1e-4 * scale(values.t().mm(keys.t())));
    }
  }
}

TEST_CASE("experts: every editor changes the chosen experts alone, and what it says") {
  const ScratchFolder folder;
  using Run = std::function<EditFile(const Model&, std::span<const EditExample>, Statistics&)>;
  for (const auto& name : variants) {
    auto model = load(name);
    const int64_t layer = edited(model);
    const auto edits = bare_edits();
    const OrderSettings one{.batch = 1};
    std::map<std::string, Run> editors;
    const auto spreading = [&](auto settings, auto editor) {
      settings.layers = {layer};
      settings.order = one;
      settings.value.steps = 5;
      if constexpr (requires { settings.threshold; }) settings.threshold = 1e6;
      return [=](const Model& m, auto e, Statistics& s) { return editor(settings, m, e, s); };
    };
    editors["memit"] = spreading(MemitSettings{.lambda = 1}, memit);
    editors["pmet"] = spreading(PmetSettings{}, pmet);
    editors["rect"] = spreading(RectSettings{}, rect);
    editors["alphaedit"] = spreading(AlphaEditSettings{}, alphaedit);
    editors["emmet"] = [&](const Model& m, auto e, Statistics& s) {
      return emmet({.layer = layer, .order = one, .value = {.steps = 5}}, m, e, s);
    };
    editors["rome"] = [&](const Model& m, auto e, Statistics& s) {
      return rome({.layer = layer, .sequential_values = true, .value = {.steps = 5}}, m, e, s);
    };
    for (const bool answered : {false, true}) {
      editors[answered ? "ft_m" : "ft_l"] = [=](const Model& m, auto e, Statistics& s) {
        return (answered ? ft_m : ft_l)({.layer = layer, .steps = 3, .order = one}, m, e, s);
      };
    }
    // A batch of one each, and nothing below the layer changes: the sites of the unedited model.
    std::set<std::string> chosen;
    for (const auto& edit : edits) {
      const auto site = edited_site(model, layer, std::span(&edit, 1));
      const auto names = edited_parameters(model, site);
      CHECK(std::ssize(names) == model.config().experts->per_token);
      chosen.insert(names.begin(), names.end());
    }
    const auto before = model.clone();
    const auto hash = model.content_hash();
    auto statistics = stored_statistics(folder.path / name, model, corpus());
    for (const auto& [editor, run] : editors) {
      DYNAMIC_SECTION(name << " " << editor) {
        const auto file = run(model, edits, statistics);
        std::set<std::string> written;
        for (const auto& delta : file.deltas) written.insert(delta.parameter);
        CHECK(written == chosen);
        CHECK(file.measures.size() == 2);
        for (const auto& measure : file.measures) CHECK(std::isfinite(measure.key_dot_u));
        const auto originals = apply_edit(model, file, true);
        for (const auto& [parameter, value] : model.parameters()) {
          INFO(parameter);
          CHECK(at::equal(value, before.parameter(parameter)) == !written.contains(parameter));
        }
        undo_edit(model, originals);
        CHECK(model.content_hash() == hash);
      }
    }
  }
}

TEST_CASE("experts: the edited model gives the values that were asked for") {
  for (const auto& name : variants) {
    DYNAMIC_SECTION(name) {
      auto model = load(name);
      const int64_t layer = edited(model);
      const auto edits = bare_edits();
      auto statistics =
          Statistics(measure_covariance(model, corpus(), {edited_site(model, layer, edits)}));
      {
        const EmmetSettings settings{.layer = layer, .mu = 0, .ridge = 1e-3, .value = {.steps = 5}};
        const auto kv =
            keys_and_values(model, edited_site(model, layer, edits), edits, settings.value);
        const auto originals = apply_edit(model, emmet(settings, model, edits, statistics), true);
        for (int64_t e = 0; e < 2; ++e) {
          const auto real = at_subject(model, layer, edits[static_cast<size_t>(e)]).first;
          const auto value = kv.initial[e] + kv.delta[e];
          CHECK(largest_difference(real, value) < 1e-4 * scale(value));
        }
        undo_edit(model, originals);
      }
      // Fine-tuning ends with the loss that it reports.
      for (const bool answered : {false, true}) {
        const FtSettings settings{.layer = layer, .steps = 4, .learning_rate = 0.01, .clamp = 0};
        const auto file = (answered ? ft_m : ft_l)(settings, model, edits, statistics);
        const auto originals = apply_edit(model, file, true);
        const at::NoGradGuard no_grad;
        for (size_t e = 0; e < 2; ++e) {
          const auto& target = edits[e].target;
          auto ids = edits[e].contexts[0].ids;
          const auto prompt = std::ssize(ids);
          ids.insert(ids.end(), target.begin(), target.end() - 1);
          const auto logp =
              model.logits(model.hidden(pack_sequences(std::span(&ids, 1)))).log_softmax(1);
          double nll = 0;
          for (int64_t t = 0; t < std::ssize(target); ++t) {
            const int64_t row = prompt - 1 + (answered ? t : 0);
            nll -= logp[row][target[static_cast<size_t>(t)]].item<double>() /
                   static_cast<double>(target.size());
          }
          CHECK(file.measures[e].target_loss == Approx(nll).epsilon(1e-5));
        }
        undo_edit(model, originals);
      }
    }
  }
}

TEST_CASE("experts: an edit of two layers arrives where it was meant to") {
  for (const auto& name : variants) {
    DYNAMIC_SECTION(name) {
      auto model = load(name);
      // The last layer must be one with experts; in one variant those lie in every other alone.
      const int64_t last =
          model.config().key_width(model.layers() - 1) == 0 ? model.layers() - 1 : edited(model);
      const std::vector one = {family_edits()[1]};
      MemitSettings settings;
      settings.layers = {last - 1, last};
      settings.lambda = 1e-9;
      settings.ridge = 1e-3;
      settings.value.steps = 5;
      const auto sites = edited_sites(model, settings.layers, one);
      Statistics statistics(measure_covariance(model, corpus(), sites));
      const auto meant =
          keys_and_values(model, sites.back(), one, settings.value, ValueSite::hidden);
      const auto originals = apply_edit(model, memit(settings, model, one, statistics), true);
      const auto value = meant.initial[0] + meant.delta[0];
      CHECK(largest_difference(at_subject(model, last, one[0]).second, value) <
            1e-4 * scale(value));
      undo_edit(model, originals);

      PmetSettings pmet_settings;
      static_cast<MemitSettings&>(pmet_settings) = settings;
      const auto halves =
          keys_and_values(model, sites.back(), one, settings.value, ValueSite::attention_and_mlp);
      apply_edit(model, pmet(pmet_settings, model, one, statistics), true);
      const auto half = (halves.initial[0] + halves.delta[0]).chunk(2)[1];
      CHECK(largest_difference(at_subject(model, last, one[0]).first, half) < 1e-4 * scale(half));
    }
  }
}

TEST_CASE("experts: AlphaEdit protects the keys of batches that chose other experts") {
  const EditSite site(1, {0, 2}), other(1, {2, 3});
  const auto keys = at::arange(12, at::kDouble).view({4, 3});
  const auto moved = keys_at(other, site, keys);
  CHECK(at::equal(moved.narrow(0, 0, 2), keys.narrow(0, 2, 2)));
  CHECK(at::equal(moved.narrow(0, 2, 2), at::zeros({2, 3}, at::kDouble)));
  CHECK(at::equal(keys_at(site, site, keys), keys));

  for (const auto& name : variants) {
    DYNAMIC_SECTION(name) {
      const ScratchFolder folder;
      auto model = load(name);
      const int64_t layer = edited(model);
      const auto edits = bare_edits();
      AlphaEditSettings settings;
      settings.layers = {layer};
      settings.threshold = 1e9;  // every direction is free
      settings.l2 = 1e-9;
      settings.order = {.batch = 1};
      settings.value.steps = 5;
      auto statistics = stored_statistics(folder.path, model, corpus());
      const auto first = alphaedit(settings, model, std::span(edits).first(1), statistics);
      const auto both = alphaedit(settings, model, edits, statistics);
      auto originals = apply_edit(model, first, true);
      const auto once = at_subject(model, layer, edits[0]).first;
      const auto before = at_subject(model, layer, edits[1]).first;
      undo_edit(model, originals);
      originals = apply_edit(model, both, true);
      CHECK(largest_difference(at_subject(model, layer, edits[0]).first, once) <
            1e-4 * scale(once));
      CHECK(largest_difference(at_subject(model, layer, edits[1]).first, before) >
            1e-2 * scale(before));
    }
  }
}

TEST_CASE("experts: covariances are stored by their experts, those of earlier requests forgotten") {
  const ScratchFolder folder;
  const auto model = load("minimax");
  const EditSite a(1, {0, 1}), b(1, {0, 2});  // as wide as each other
  std::vector<int64_t> computed;
  auto statistics = stored_statistics(folder.path, model, corpus(), {a}, &computed);
  CHECK(computed == std::vector<int64_t>{1});
  stored_statistics(folder.path, model, corpus(), {b}, &computed);
  CHECK(computed == std::vector<int64_t>{1});
  stored_statistics(folder.path, model, corpus(), {b}, &computed);
  CHECK(computed.empty());

  const auto of_a = statistics.covariance(a);
  CHECK_THROWS_WITH(statistics.covariance(b),
                    Catch::Contains("1 (experts 0, 2)") && Catch::Contains("[1 (experts 0, 1)]"));
  statistics.prepare({b});
  CHECK(!at::equal(statistics.covariance(b), of_a));
  CHECK(statistics.covariance(b).sizes() == of_a.sizes());
  CHECK_THROWS_WITH(statistics.covariance(a), Catch::Contains("1 (experts 0, 1)"));
  statistics.prepare({a});
  CHECK(at::equal(statistics.covariance(a), of_a));
  CHECK_THROWS_WITH(measure_covariance(model, corpus(), {a, b}), Catch::Contains("two sets"));
}

TEST_CASE("experts: what cannot be edited says what to do") {
  const auto model = load("qwen3_moe");  // layer 0 has a dense MLP
  const auto& config = model.config();
  CHECK(key_width(config, 0) == config.intermediate_size);
  CHECK(key_width(config, {1, {2, 5}}) == 2 * config.experts->width);
  CHECK_THROWS_WITH(key_width(config, 1), Catch::Contains("routed experts 0 .. 5"));
  CHECK_THROWS_WITH(key_width(config, EditSite(1, {6})), Catch::Contains("(experts 6)"));
  CHECK_THROWS_WITH(key_width(config, EditSite(0, {1})), Catch::Contains("without routed experts"));
  CHECK_THROWS_WITH(key_width(config, 3), Catch::Contains("layers 0 .. 2"));

  ModelConfig wide = config;
  wide.layers = 1;
  wide.windows.clear();
  wide.experts->layers = {true};
  wide.experts->width = 8192;
  wide.experts->per_token = 3;
  const auto giant = Model::random(wide, 1);
  const std::vector one = {family_edits()[1]};
  CHECK_THROWS_WITH(edited_site(giant, 0, one),
                    Catch::Contains("24576") && Catch::Contains("3 of 6 experts") &&
                        Catch::Contains("2.2 GiB") && Catch::Contains("16384") &&
                        Catch::Contains("fewer requests"));
}
