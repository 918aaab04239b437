#include <catch2/catch.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "editing/operations.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

EditFile random_edit(const Model& model, int64_t layer, uint64_t seed, int64_t rank = 2) {
  at::manual_seed(seed);
  EditFile edit;
  edit.method = "rome";
  edit.base_hash = model.content_hash();
  edit.settings = R"({"layer":1})";
  edit.requests = {{.id = fmt::format("r{}", seed),
                    .prompt = "台湾是",
                    .subject = "台湾",
                    .target = "\"岛\"\n"}};
  edit.requests[0].contexts = {"一 台湾是"};
  edit.deltas = {{fmt::format("model.layers.{}.mlp.down_proj.weight", layer),
                  0.1 * at::randn({16, rank}), at::randn({rank, 24})}};
  edit.measures = {{.id = edit.requests[0].id,
                    .layer = layer,
                    .key_dot_u = 0.1,
                    .key_alignment = 1,
                    .relative_norm = 0.3,
                    .target_loss = 0.25,
                    .steps = 24}};
  return edit;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("an edit file reads back as it was written") {
  const ScratchFolder folder;
  const auto model = tiny_model(at::kFloat);
  auto edit = random_edit(model, 1, 7);
  edit.guard = GuardReport{0.5, 10, 11};
  const auto path = folder.path / "a" / "edit.safetensors";
  write_edit_file(path, edit);
  const auto read = read_edit_file(path);
  CHECK(describe_edit(read) == describe_edit(edit));
  REQUIRE(read.deltas.size() == 1);
  CHECK(at::equal(read.deltas[0].left, edit.deltas[0].left));
  CHECK(at::equal(read.deltas[0].right, edit.deltas[0].right));

  edit.deltas[0].right = at::randn({3, 24});
  CHECK_THROWS_WITH(write_edit_file(path, edit), Catch::Contains("[r, in]"));
  write_safetensors(folder.path / "other.safetensors", {{"x", at::ones({1})}});
  CHECK_THROWS_WITH(read_edit_file(folder.path / "other.safetensors"),
                    Catch::Contains("no edit file"));
}

TEST_CASE("apply then undo restores every bit of a model, fp32 and bf16") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    auto model = tiny_model(dtype);
    const auto hash = model.content_hash();
    const auto weight = model.parameter("model.layers.1.mlp.down_proj.weight");
    const auto before = weight.clone();
    const auto edit = random_edit(model, 1, 7);
    const auto originals = apply_edit(model, edit);
    CHECK(originals.size() == 1);
    const auto expected =
        (before.to(at::kDouble) +
         edit.deltas[0].left.to(at::kDouble).mm(edit.deltas[0].right.to(at::kDouble)))
            .to(dtype);
    CHECK(at::equal(weight, expected));
    CHECK(model.content_hash() != hash);
    // The edit was for the model before it.
    CHECK_THROWS_WITH(apply_edit(model, edit), Catch::Contains(hash));
    undo_edit(model, originals);
    CHECK(model.content_hash() == hash);
  }
}

TEST_CASE("an edit that does not fit changes nothing") {
  auto model = tiny_model(at::kFloat);
  const auto hash = model.content_hash();
  auto edit = random_edit(model, 1, 7);
  edit.deltas.push_back(
      {"model.layers.2.mlp.down_proj.weight", at::ones({16, 1}), at::ones({1, 5})});
  CHECK_THROWS_WITH(apply_edit(model, edit),
                    Catch::Contains("layers.2") && Catch::Contains("[16, 5]"));
  CHECK(model.content_hash() == hash);
}

TEST_CASE("merged edits are the sum of the edits") {
  const auto base = tiny_model(at::kDouble);
  const auto a = random_edit(base, 1, 1), b = random_edit(base, 1, 2, 3),
             c = random_edit(base, 2, 3);
  const auto merged = merge_edits({a, b, c});
  CHECK(merged.deltas.size() == 2);
  CHECK(merged.deltas[0].left.size(1) == 5);
  CHECK(merged.requests.size() == 3);
  auto together = base.clone(), one_by_one = base.clone();
  apply_edit(together, merged);
  for (const auto& edit : {a, b, c}) apply_edit(one_by_one, edit, true);
  for (const auto& [name, tensor] : together.parameters()) {
    CHECK(largest_difference(tensor, one_by_one.parameter(name)) < 1e-12);
  }

  auto foreign = b;
  foreign.base_hash = "0";
  CHECK_THROWS_WITH(merge_edits({a, foreign}), Catch::Contains("different base"));
  CHECK_NOTHROW(merge_edits({a, foreign}, true));
  CHECK_THROWS_AS(merge_edits({}), Error);
}

TEST_CASE(
    "edits on disk: apply keeps untouched tensors, undo restores every byte, last edit first") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const ScratchFolder folder;
    const auto base = folder.path / "base", one = folder.path / "one", two = folder.path / "two";
    tiny_model(dtype).save(base);
    const auto model = Model::load(base);  // fp32, as an editor holds it
    write_edit_file(folder.path / "a.safetensors", random_edit(model, 1, 1));
    apply_edit_to_checkpoint(base, folder.path / "a.safetensors", one);

    const auto before = Checkpoint::open(base), after = Checkpoint::open(one);
    for (const auto& info : before.tensors()) {
      const bool touched = info.name == "model.layers.1.mlp.down_proj.weight";
      CHECK(after.tensor(info.name).scalar_type() == dtype);
      CHECK(at::equal(after.tensor(info.name), before.tensor(info.name)) != touched);
    }
    auto in_memory = Model::load(base);
    apply_edit(in_memory, read_edit_file(folder.path / "a.safetensors"));
    CHECK(at::equal(after.tensor("model.layers.1.mlp.down_proj.weight"),
                    in_memory.parameter("model.layers.1.mlp.down_proj.weight").to(dtype)));

    write_edit_file(folder.path / "b.safetensors", random_edit(Model::load(one), 1, 2));
    apply_edit_to_checkpoint(one, folder.path / "b.safetensors", two);
    CHECK(list_edits(two).size() == 2);
    CHECK(list_edits(two)[1].requests == std::vector<std::string>{"r2"});
    CHECK(list_edits(two)[1].rank == 2);
    CHECK(list_edits(base).empty());
    CHECK(list_edits(folder.path).size() == 2);

    CHECK(undo_last_edit(two, folder.path / "undone2") == after.content_hash());
    CHECK(undo_last_edit(folder.path / "undone2", folder.path / "undone1") ==
          before.content_hash());
    CHECK(bytes_of(folder.path / "undone1" / "model.safetensors") ==
          bytes_of(base / "model.safetensors"));
    CHECK_FALSE(std::filesystem::exists(folder.path / "undone1" / "edits"));
    CHECK_THROWS_WITH(undo_last_edit(folder.path / "undone1", folder.path / "x"),
                      Catch::Contains("no edit was applied"));

    CHECK_THROWS_WITH(
        apply_edit_to_checkpoint(base, folder.path / "b.safetensors", folder.path / "y"),
        Catch::Contains("force"));
    CHECK_THROWS_WITH(apply_edit_to_checkpoint(base, folder.path / "a.safetensors", one),
                      Catch::Contains("not an empty folder"));
  }
}

TEST_CASE("undo refuses a checkpoint that has changed since") {
  const ScratchFolder folder;
  const auto base = folder.path / "base", one = folder.path / "one";
  const auto model = tiny_model(at::kFloat);
  model.save(base);
  write_edit_file(folder.path / "a.safetensors", random_edit(model, 1, 1));
  apply_edit_to_checkpoint(base, folder.path / "a.safetensors", one);
  tiny_model(at::kFloat, 24, 9).save(folder.path / "other");
  std::filesystem::copy_file(folder.path / "other" / "model.safetensors", one / "model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  CHECK_THROWS_WITH(undo_last_edit(one, folder.path / "x"), Catch::Contains("changed since"));
}

TEST_CASE("show and merge work on files") {
  const ScratchFolder folder;
  const auto model = tiny_model(at::kFloat);
  const auto a = random_edit(model, 1, 1);
  write_edit_file(folder.path / "a.safetensors", a);
  write_edit_file(folder.path / "b.safetensors", random_edit(model, 2, 2));
  merge_edit_files({folder.path / "a.safetensors", folder.path / "b.safetensors"},
                   folder.path / "ab.safetensors");
  const auto shown = show_edit(folder.path / "ab.safetensors");
  CHECK(shown["requests"].size() == 2);
  CHECK(shown["deltas"][0]["norm"].get<double>() ==
        Approx(a.deltas[0].left.mm(a.deltas[0].right).norm().item<double>()));
  CHECK(list_edits(folder.path / "ab.safetensors").at(0).parameters.size() == 2);
  CHECK_THROWS_AS(list_edits(folder.path / "nothing"), Error);
}
