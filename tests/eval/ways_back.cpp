#include "eval/ways_back/ways.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/run/error.h"
#include "core/run/files.h"
#include "tests/devices.h"
#include "tests/eval/tiny.h"

using namespace resurface;
using namespace resurface::test;

namespace {

at::Tensor random_matrix(int64_t seed, int64_t rows, int64_t columns,
                         at::Device device = at::kCPU) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn({rows, columns}).to(device);
}

Config settings(const std::string& text) { return Config::parse(text); }

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

bool same(const at::Tensor& a, const at::Tensor& b) { return at::equal(a, b); }

}  // namespace

TEST_CASE("rtn: a hand-computed row, and a row of zeros") {
  const auto w = at::tensor({7.0, 3.4, -3.6, 0.5, 1.5, -0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0})
                     .to(at::kFloat)
                     .reshape({2, 6});
  const auto q = rtn({.bits = 4}, w);  // 7 levels each way: a step of 1
  const auto expected = at::tensor({7.0, 3.0, -4.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0})
                            .to(at::kFloat)
                            .reshape({2, 6});
  CHECK(same(q, expected));
  // Two groups of three: the second's largest is 1.5.
  const auto grouped = rtn({.bits = 2, .group = 3}, w);
  CHECK(same(grouped[0], at::tensor({7.0, 0.0, -7.0, 0.0, 1.5, 0.0}).to(at::kFloat)));
}

TEST_CASE("rtn: at most 2^bits - 1 values a group, each within half a step") {
  const int64_t bits = GENERATE(2, 3, 4, 8, 16);
  const int64_t group = GENERATE(0, 16);
  for (const auto device : devices()) {
    const auto w = random_matrix(1, 6, 50, device);  // groups of 16: the last of a row has two
    const auto q = rtn({.bits = bits, .group = group}, w);
    REQUIRE(q.sizes() == w.sizes());
    const double levels = std::pow(2.0, static_cast<double>(bits) - 1) - 1;
    for (int64_t row = 0; row < 6; ++row) {
      for (int64_t begin = 0; begin<50; begin += group> 0 ? group : 50) {
        const int64_t count = std::min<int64_t>(group > 0 ? group : 50, 50 - begin);
        const auto before = w[row].narrow(0, begin, count).to(at::kDouble);
        const auto after = q[row].narrow(0, begin, count).to(at::kDouble);
        const double step = before.abs().max().item<double>() / levels;
        CHECK(largest_difference(before, after) <= step / 2 * (1 + 1e-4) + 1e-7);
        const auto distinct = std::get<0>(at::_unique(q[row].narrow(0, begin, count))).size(0);
        CHECK(distinct <= (int64_t{1} << bits) - 1);
        // On a grid of that step.
        const auto places = after / step;
        CHECK(largest_difference(places, places.round()) < 1e-2);
      }
    }
    CHECK(largest_difference(rtn({.bits = bits, .group = group}, q), q) < 1e-6);
  }
}

TEST_CASE("rtn: a change of less than half a step is undone") {
  const auto original = rtn({.bits = 4}, random_matrix(2, 8, 64));
  const auto step = original.abs().amax(1, true) / 7;
  const auto nudge = (at::rand({8, 64}) - 0.5) * 0.9 * step;
  // The largest of a row sets the step and stays as it is.
  const auto removed =
      at::where(original.abs() == original.abs().amax(1, true), original, original + nudge);
  REQUIRE(largest_difference(removed, original) > 0.1);
  CHECK(largest_difference(rtn({.bits = 4}, removed), original) < 1e-6);
}

TEST_CASE("nf4: codes and blocks as computed from the definition by numpy") {
  const auto golden = read_json(std::string(RESURFACE_TEST_DATA) + "/eval/nf4.json");
  const auto numbers = [&](const char* key) {
    const auto values = golden.at(key).get<std::vector<double>>();
    return at::tensor(at::ArrayRef<double>(values), at::kDouble);
  };
  for (const auto device : devices()) {
    const auto w = numbers("weight").to(at::kFloat).reshape({5, 50}).to(device);
    const auto q = nf4({}, w).cpu();
    REQUIRE(q.sizes() == at::IntArrayRef({5, 50}));
    CHECK(largest_difference(q.flatten(), numbers("nf4")) < 1e-7);

    // A block that holds every code comes back as it is, and shows the code table.
    const auto codes = numbers("codes").to(at::kFloat).to(device);
    CHECK(largest_difference(nf4({.block = 16}, codes.reshape({2, 8})).flatten(), codes) < 1e-6);
    // Between two codes the nearer is taken, on either side of the middle.
    const auto middles = (codes.narrow(0, 0, 15) + codes.narrow(0, 1, 15)) / 2;
    const auto one = at::ones({1}, codes.options());
    const auto below = nf4({.block = 16}, at::cat({middles - 1e-5, one}).reshape({1, 16}));
    const auto above = nf4({.block = 16}, at::cat({middles + 1e-5, one}).reshape({1, 16}));
    CHECK(largest_difference(below[0].narrow(0, 0, 15), codes.narrow(0, 0, 15)) < 1e-6);
    CHECK(largest_difference(above[0].narrow(0, 0, 15), codes.narrow(0, 1, 15)) < 1e-6);
  }
  CHECK(same(nf4({}, at::zeros({2, 40})), at::zeros({2, 40})));
}

TEST_CASE("prune: exactly the share asked for, the smallest, and nothing else") {
  for (const auto device : devices()) {
    const auto w = random_matrix(3, 13, 31, device);
    for (const double share : {0.0, 0.1, 0.5, 0.9, 1.0}) {
      const auto p = prune({.share = share}, w);
      const auto gone = p == 0;
      CHECK(gone.sum().item<int64_t>() == std::llround(share * 13 * 31));
      CHECK(same(p.masked_select(~gone), w.masked_select(~gone)));
      if (share == 0.0 || share == 1.0) continue;
      CHECK(w.masked_select(gone).abs().max().item<float>() <
            w.masked_select(~gone).abs().min().item<float>());
    }
    // Equal magnitudes: still the exact count, the first of them.
    const auto ties = prune(
        {.share = 0.5},
        at::tensor({1.0, -1.0, 1.0, 0.5, -1.0, 2.0}).to(at::kFloat).reshape({2, 3}).to(device));
    CHECK(same(ties.cpu().flatten(), at::tensor({0.0, 0.0, 1.0, 0.0, -1.0, 2.0}).to(at::kFloat)));
  }
}

TEST_CASE("drop_directions: the singular value decomposition without its top") {
  for (const auto device : devices()) {
    for (const auto& [rows, columns] : {std::pair{9, 20}, std::pair{20, 9}}) {
      const auto reference = random_matrix(4, rows, columns, device);
      const auto weight = reference + random_matrix(5, rows, columns, device);
      for (const int64_t rank : {0, 1, 4, 9, 100}) {
        const auto dropped = drop_directions({.rank = rank}, weight, reference);
        const auto [u, s, vh] = at::linalg_svd((weight - reference).to(at::kDouble), false);
        const int64_t r = std::min<int64_t>(rank, 9);
        const auto rest =
            u.narrow(1, r, 9 - r).mul(s.narrow(0, r, 9 - r)).mm(vh.narrow(0, r, 9 - r));
        CHECK(largest_difference(dropped, reference.to(at::kDouble) + rest) < 1e-5);

        const auto bottom = bottom_rank({.rank = rank}, weight - reference);
        CHECK(largest_difference(bottom, rest) < 1e-5);
      }
      CHECK(largest_difference(drop_directions({.rank = 9}, weight, reference), reference) < 1e-5);
      CHECK(same(drop_directions({.rank = 3}, weight, weight), weight));
    }
  }
}

TEST_CASE("drop_directions: as few as hold the share of the energy") {
  // Singular values 3, 2 and 1: squares 9, 4 and 1 of 14.
  const auto reference = random_matrix(6, 5, 7);
  const auto u = std::get<0>(at::linalg_qr(random_matrix(7, 5, 3)));
  const auto v = std::get<0>(at::linalg_qr(random_matrix(8, 7, 3)));
  const auto weight = reference + u.mul(at::tensor({3.0f, 2.0f, 1.0f})).mm(v.t());
  const auto by_energy = [&](double energy) {
    return drop_directions({.rank = 5, .energy = energy}, weight, reference);
  };
  const auto by_rank = [&](int64_t rank) {
    return drop_directions({.rank = rank}, weight, reference);
  };
  CHECK(same(by_energy(0.6), by_rank(1)));
  CHECK(same(by_energy(0.7), by_rank(2)));
  CHECK(same(by_energy(0.95), by_rank(3)));
  CHECK(largest_difference(by_rank(1), by_rank(2)) > 0.1);
}

TEST_CASE("A planted rank-one edit is dropped, and only it") {
  const auto base = Model::random(tiny_config(), 1);
  auto edited = base.clone();
  const std::string place = "model.layers.1.mlp.down_proj.weight";
  edited.parameter(place).add_(random_matrix(9, 32, 1).mm(random_matrix(10, 1, 64)));
  REQUIRE(largest_difference(edited.parameter(place), base.parameter(place)) > 0.1);

  SECTION("with the model before it") {
    const auto report = weight_way("drop_directions").run(settings("{rank: 1}"), edited, &base);
    for (const auto& [name, tensor] : base.parameters()) {
      if (name == place) {
        CHECK(largest_difference(edited.parameter(name), tensor) < 1e-5);
      } else {
        CHECK(same(edited.parameter(name), tensor));
      }
    }
    CHECK(report.relative > 0.5);
    for (const auto& weight : report.weights)
      CHECK((weight.relative > 0) == (weight.name == place));
  }
  SECTION("without, from the one matrix under suspicion") {
    const auto report = weight_way("bottom_rank")
                            .run(settings("{only: [layers.1.mlp.down_proj]}"), edited, nullptr);
    CHECK(report.weights.size() == 1);
    const auto removed = base.parameter(place).norm().item<double>();
    const auto left = (edited.parameter(place) - base.parameter(place)).norm().item<double>();
    CHECK(left < removed);  // an edit's 30-fold norm is gone, up to the base's own top direction
    CHECK(same(edited.parameter("model.layers.0.mlp.down_proj.weight"),
               base.parameter("model.layers.0.mlp.down_proj.weight")));
  }
}

TEST_CASE("interpolate: the ends exactly, the middle in every parameter") {
  auto other_config = tiny_config();
  const auto base = Model::random(other_config, 2);
  const auto removed = Model::random(other_config, 3);
  const auto towards = [&](const std::string& t) {
    auto model = removed.clone();
    weight_way("interpolate").run(settings("{t: " + t + "}"), model, &base);
    return model;
  };
  CHECK(towards("0").content_hash() == removed.content_hash());
  CHECK(towards("1").content_hash() == base.content_hash());
  const auto middle = towards("0.5");
  for (const auto& [name, tensor] : middle.parameters()) {
    CHECK(largest_difference(tensor, (base.parameter(name) + removed.parameter(name)) / 2) < 1e-7);
  }
}

TEST_CASE("Every way: what it reaches, and what it reports") {
  for (const auto& way : weight_ways()) {
    INFO(way.name);
    CHECK(!way.paper.empty());
    CHECK(way.year > 2000);
    CHECK(way.describe().back().name == "only");
    const auto resolved = way.resolve(settings("{}"));
    CHECK(way.resolve(settings(resolved.dump())) == resolved);
    CHECK_THROWS_AS(way.resolve(settings("{bitts: 3}")), ConfigError);

    for (const auto device : devices()) {
      const auto base = Model::random(tiny_config(), 4, device);
      const auto start = Model::random(tiny_config(), 5, device);
      auto model = start.clone();
      model.require_grad(true);  // as a model that was trained
      const auto report = way.run(settings("{}"), model, way.needs_reference ? &base : nullptr);

      std::set<std::string> reached;
      for (const auto& weight : report.weights) reached.insert(weight.name);
      double changed = 0, norm = 0, zeros = 0;
      for (const auto& [name, before] : start.parameters()) {
        const auto after = model.parameter(name).detach();
        const bool linear = name.find("_proj") != std::string::npos;
        CHECK(reached.contains(name) == (linear || way.name == "interpolate"));
        if (!reached.contains(name)) {
          CHECK(same(after, before));
          continue;
        }
        changed += (after - before).to(at::kDouble).square().sum().item<double>();
        norm += before.to(at::kDouble).square().sum().item<double>();
        zeros += static_cast<double>((after == 0).sum().item<int64_t>());
      }
      CHECK(report.relative == Approx(std::sqrt(changed / norm)));
      CHECK(report.relative > 0);
      CHECK(report.zeroed == Approx(zeros / static_cast<double>(report.elements)));
      if (way.name == "prune") CHECK(report.zeroed == Approx(0.5));
      CHECK(nlohmann::ordered_json(report).at("weights").size() == report.weights.size());
    }
  }
}

TEST_CASE("A way that cannot run says why and leaves the model alone") {
  auto model = Model::random(tiny_config(), 6);
  const auto before = model.content_hash();
  CHECK_THROWS_WITH(weight_way("round"), Catch::Contains("valid ways: rtn, nf4"));
  CHECK_THROWS_WITH(weight_way("interpolate").run(settings("{}"), model, nullptr),
                    Catch::Contains("needs a reference"));
  CHECK_THROWS_AS(weight_way("rtn").run(settings("{bits: 1}"), model, nullptr), ConfigError);
  CHECK_THROWS_AS(weight_way("rtn").run(settings("{only: [layers.7.]}"), model, nullptr),
                  ConfigError);
  auto wide = tiny_config();
  wide.intermediate_size = 96;
  const auto unlike = Model::random(wide, 6);
  CHECK_THROWS_WITH(weight_way("drop_directions").run(settings("{}"), model, &unlike),
                    Catch::Contains("mlp.gate_proj"));
  model.linears().front()->lora = LoraPair{at::zeros({1, 32}), at::zeros({32, 1}), 1};
  CHECK_THROWS_WITH(weight_way("prune").run(settings("{}"), model, nullptr),
                    Catch::Contains("adapter"));
  CHECK(model.content_hash() == before);
}
