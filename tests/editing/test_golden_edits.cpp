// The editors against an implementation of the reference's way of doing it
// (scripts/golden_editing.py).
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "editing/editors.h"
#include "editing/rome.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

struct Golden {
  SafetensorsFile file{data() / "golden.safetensors"};
  nlohmann::json json;
  std::vector<EditExample> edits;
  Model model;
  Statistics statistics;

  static std::filesystem::path data() {
    return std::filesystem::path(RESURFACE_TEST_DATA) / "editing";
  }
  static nlohmann::json read() {
    return nlohmann::json::parse(std::ifstream(data() / "golden.json"));
  }
  Golden()
      : json(read()),
        model(Model::load(std::filesystem::path(RESURFACE_TEST_DATA) / "model" /
                              json["checkpoint"].get<std::string>(),
                          at::kCPU, at::kDouble)) {
    for (const auto& edit : json["edits"]) {
      EditExample example;
      example.id = edit["id"];
      for (const auto& context : edit["contexts"]) {
        example.contexts.push_back(
            {context["ids"].get<std::vector<int64_t>>(), context["subject"].get<int64_t>()});
      }
      example.target = edit["target"].get<std::vector<int64_t>>();
      example.kl = {edit["kl"]["ids"].get<std::vector<int64_t>>(),
                    edit["kl"]["subject"].get<int64_t>()};
      edits.push_back(std::move(example));
    }
    Covariances covariance;
    for (int64_t layer = 0; layer < 3; ++layer) {
      covariance[layer] = file.tensor(fmt::format("covariance.{}", layer)).clone();
    }
    statistics = Statistics(std::move(covariance));
  }

  /// Every delta against the golden of its layer, in shares of the largest entry.
  void check(const std::string& name, const EditFile& edit, size_t layers) const {
    INFO(name);
    CHECK(edit.deltas.size() == layers);
    for (const auto& delta : edit.deltas) {
      const auto layer = delta.parameter.substr(std::string("model.layers.").size(), 1);
      const auto expected = file.tensor(name + "." + layer);
      const auto found = delta.left.to(at::kDouble).mm(delta.right.to(at::kDouble));
      INFO(layer);
      CHECK(largest_difference(found, expected) < 2e-5 * expected.abs().max().item<double>());
    }
  }
};

void golden_value(ValueSettings& value, double clamp) {
  value.steps = 6;
  value.clamp = clamp;
}

}  // namespace

TEST_CASE("golden: ROME with either key") {
  Golden golden;
  RomeSettings settings;
  settings.layer = 1;
  golden_value(settings.value, 4);
  golden.check("rome", rome(settings, golden.model, golden.edits, golden.statistics), 1);
  settings.original_key = true;
  golden.check("rome_original_key", rome(settings, golden.model, golden.edits, golden.statistics),
               1);
}

TEST_CASE("golden: MEMIT, all together, in batches apart and one on the other") {
  Golden golden;
  MemitSettings settings;
  settings.layers = {0, 1};
  settings.lambda = 20;
  golden_value(settings.value, 0.75);
  golden.check("memit", memit(settings, golden.model, golden.edits, golden.statistics), 2);
  settings.order = {.batch = 2, .sequential = false};
  golden.check("memit_independent", memit(settings, golden.model, golden.edits, golden.statistics),
               2);
  settings.order.sequential = true;
  golden.check("memit_sequential", memit(settings, golden.model, golden.edits, golden.statistics),
               2);
}

TEST_CASE("golden: PMET") {
  Golden golden;
  PmetSettings settings;
  settings.layers = {0, 1};
  settings.lambda = 20;
  golden_value(settings.value, 0.75);
  golden.check("pmet", pmet(settings, golden.model, golden.edits, golden.statistics), 2);
}

TEST_CASE("golden: EMMET") {
  Golden golden;
  EmmetSettings settings;
  settings.layer = 1;
  golden_value(settings.value, 4);
  golden.check("emmet", emmet(settings, golden.model, golden.edits, golden.statistics), 1);
}

TEST_CASE("golden: AlphaEdit with protected keys") {
  Golden golden;
  AlphaEditSettings settings;
  settings.layers = {0, 1};
  settings.threshold = golden.json["threshold"];
  settings.l2 = 0.5;
  settings.order.batch = 2;
  golden_value(settings.value, 0.75);
  golden.check("alphaedit", alphaedit(settings, golden.model, golden.edits, golden.statistics), 2);
}

TEST_CASE("golden: RECT") {
  Golden golden;
  RectSettings settings;
  settings.layers = {0, 1};
  settings.lambda = 20;
  golden_value(settings.value, 0.75);
  golden.check("rect", rect(settings, golden.model, golden.edits, golden.statistics), 2);
}

TEST_CASE("golden: FT-L and FT-M") {
  Golden golden;
  FtSettings settings;
  settings.layer = 1;
  settings.steps = 4;
  settings.learning_rate = 1e-2;
  settings.clamp = 2.5e-2;
  golden.check("ft_l", ft_l(settings, golden.model, golden.edits, golden.statistics), 1);
  settings.layer = 2;
  golden.check("ft_m", ft_m(settings, golden.model, golden.edits, golden.statistics), 1);
}
