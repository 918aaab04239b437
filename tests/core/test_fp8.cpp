#include "core/checkpoint/convert.h"
#include "core/checkpoint/fp8.h"
#include "core/checkpoint/inspect.h"
#include "tests/core/checkpoint_files.h"

using namespace resurface;
using Catch::Matchers::Contains;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kFolder = fs::path(RESURFACE_TEST_DATA) / "checkpoint" / "fp8";

json config_with(const json& quantization) {
  return {{"model_type", "llama"}, {"quantization_config", quantization}};
}

}  // namespace

TEST_CASE("fp8: weights read as transformers dequantises them, scales folded in") {
  const Checkpoint c = Checkpoint::open(kFolder);
  const SafetensorsFile expected(kFolder / "plain.safetensors");
  CHECK(c.fp8());
  CHECK(c.tensors().size() == expected.tensors().size());
  for (const TensorInfo& t : expected.tensors()) {
    INFO(t.name);
    same(c.tensor(t.name), expected.tensor(t.name));
  }
  CHECK(!c.contains("a.weight_scale_inv"));
  CHECK_THROWS_WITH(c.tensor("a.weight_scale_inv"), Contains("no tensor"));
  // The hash is that of the values: a folder in fp32 has the same.
  Folder folder;
  std::vector<std::pair<std::string, at::Tensor>> plain;
  for (const TensorInfo& t : expected.tensors())
    plain.emplace_back(t.name, expected.tensor(t.name));
  write_checkpoint(folder / "plain", {{"model_type", "llama"}}, plain);
  CHECK(Checkpoint::open(folder / "plain").content_hash() == c.content_hash());

  const auto report = inspect_checkpoint(kFolder);
  CHECK(report["parameters"] == 32 * 24 + 20 * 13 + 5 * 3 + 4);
  CHECK(report["dtypes"]["F8_E4M3"]["tensors"] == 3);
  CHECK(report["tensors"].size() == 4);
}

TEST_CASE("fp8: saving keeps what did not change and quantises the rest anew") {
  Folder folder;
  const Checkpoint in = Checkpoint::open(kFolder);
  const at::Tensor changed = in.tensor("b.weight") + 0.25;
  in.save_with(folder / "out", {{"b.weight", changed}});
  const SafetensorsFile before(kFolder / "model.safetensors"),
      after(folder / "out" / "model.safetensors");
  for (const char* name :
       {"a.weight", "a.weight_scale_inv", "c.weight", "c.weight_scale_inv", "norm.weight"}) {
    INFO(name);
    CHECK(after.bytes(name) == before.bytes(name));
  }
  CHECK(after.info("b.weight").dtype == at::ScalarType::Float8_e4m3fn);
  CHECK(after.info("b.weight_scale_inv").shape == before.info("b.weight_scale_inv").shape);
  CHECK(read(folder / "out" / "config.json") == read(kFolder / "config.json"));
  const Checkpoint out = Checkpoint::open(folder / "out");
  // e4m3 keeps 4 significant bits: half a unit in the last place of the largest of a block is 16.
  const double most = changed.abs().max().item<double>() * 16 / 448;
  CHECK((out.tensor("b.weight") - changed).abs().max().item<double>() <= most);
  CHECK(!at::equal(out.tensor("b.weight"), in.tensor("b.weight")));

  SECTION("and back: the values, and so the bytes, are those of before") {
    out.save_with(folder / "back", {{"b.weight", in.tensor("b.weight")}});
    CHECK(Checkpoint::open(folder / "back").content_hash() == in.content_hash());
    CHECK(read(folder / "back" / "model.safetensors") == read(kFolder / "model.safetensors"));
  }
  SECTION("convert keeps fp8, or folds it in") {
    convert_checkpoint(kFolder, folder / "same", {});
    CHECK(SafetensorsFile(folder / "same" / "model.safetensors").bytes("a.weight") ==
          before.bytes("a.weight"));
    CHECK(Checkpoint::open(folder / "same").content_hash() == in.content_hash());
    convert_checkpoint(kFolder, folder / "bf16", {.dtype = at::kBFloat16});
    const Checkpoint bf16 = Checkpoint::open(folder / "bf16");
    CHECK(!bf16.config().contains("quantization_config"));
    CHECK(bf16.tensors().size() == 4);
    same(bf16.tensor("a.weight"), in.tensor("a.weight").to(at::kBFloat16));
  }
  SECTION("refusals") {
    CHECK_THROWS_WITH(in.save_with(folder / "x", {{"b.weight", changed / 0}}),
                      Contains("'b.weight' has values that are not finite"));
    CHECK_THROWS_WITH(in.save_with(folder / "x", {{"b.weight", changed.t()}}),
                      Contains("expected shape [20, 13], got [13, 20]"));
    CHECK(!fs::exists(folder / "x"));
  }
}

TEST_CASE("fp8: what was quantised comes back bit by bit, zeros and powers of two too") {
  const Fp8Format format{.rows = 4, .cols = 8};
  at::manual_seed(1);
  for (const bool power : {false, true}) {
    Fp8Format f = format;
    f.power_of_two = power;
    for (int i = 0; i < 20; ++i) {
      const at::Tensor w = at::randn({10, 20}) * std::pow(10.0, i - 10);
      w[0].zero_();
      w.slice(0, 4, 8).zero_();
      const auto [q, s] = quantise_fp8("w", w, f, at::kFloat);
      CHECK(s.sizes() == at::IntArrayRef({3, 3}));
      if (power) CHECK(at::equal(s.log2(), s.log2().round()));
      const at::Tensor once = dequantise_fp8(q, s, f);
      const auto [q2, s2] = quantise_fp8("w", once, f, at::kFloat);
      CHECK(at::equal(dequantise_fp8(q2, s2, f), once));
      CHECK(((once - w).abs() <= w.abs() / 16 + s.max().item<float>() * 0.002f).all().item<bool>());
    }
  }
  const auto [q, s] =
      quantise_fp8("w", at::ones({2, 3}), Fp8Format{.rows = 0, .cols = 0}, at::kFloat);
  CHECK(s.sizes() == at::IntArrayRef({1, 1}));
  CHECK(at::equal(dequantise_fp8(q, s, Fp8Format{.rows = 0, .cols = 0}), at::ones({2, 3})));
}

TEST_CASE("fp8: other quantisations are refused by name, with what to do") {
  const auto reading = [](const json& q) {
    return message_of([&] { read_quantization(config_with(q), "config.json"); });
  };
  CHECK(!read_quantization(json::object(), "x"));
  CHECK(!read_quantization(config_with(nullptr), "x"));
  CHECK_THAT(reading({{"quant_method", "gptq"}}), Contains("gptq") && Contains("made from"));
  CHECK_THAT(reading({{"quant_method", "awq"}}), Contains("quantised by awq"));
  CHECK_THAT(reading({{"quant_method", "bitsandbytes"}}), Contains("model.dequantize()"));
  CHECK_THAT(reading({{"quant_method", "mxfp4"}}), Contains("Mxfp4Config(dequantize=True)"));
  CHECK_THAT(reading({{"bits", 4}}), Contains("of no name"));
  CHECK_THAT(reading({{"quant_method", "fp8"}, {"fmt", "e5m2"}}), Contains("fmt = \"e5m2\""));
  CHECK_THAT(reading({{"quant_method", "fp8"}, {"activation_scheme", "static"}}),
             Contains("static"));
  CHECK_THAT(reading({{"quant_method", "fp8"}, {"weight_block_size", {0, 128}}}),
             Contains("weight_block_size"));
  CHECK_THAT(reading(3), Contains("expected an object"));
  CHECK(read_quantization(config_with({{"quant_method", "fp8"}}), "x")->rows == 128);
  CHECK(read_quantization(config_with({{"quant_method", "fp8"}, {"scale_fmt", "ue8m0"}}), "x")
            ->power_of_two);

  Folder folder;
  const json config = config_with({{"quant_method", "fp8"}, {"weight_block_size", {2, 2}}});
  const auto q = [](at::IntArrayRef s) { return at::ones(s).to(at::ScalarType::Float8_e4m3fn); };
  const auto opening = [&](const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
    write_checkpoint(folder / "c", config, tensors);
    return message_of([&] { Checkpoint::open(folder / "c"); });
  };
  CHECK(opening({{"w", q({3, 4})}, {"w_scale_inv", at::ones({2, 2})}}) == "opened");
  CHECK_THAT(opening({{"w", q({3, 4})}}), Contains("there is no 'w_scale_inv'"));
  CHECK_THAT(opening({{"w", q({3, 4})}, {"w_scale_inv", at::ones({2, 3})}}),
             Contains("tensor 'w': shape [3, 4] in blocks of 2 x 2 has scales [2, 2], got [2, 3]"));
  CHECK_THAT(opening({{"w", at::ones({3, 4})}, {"w_scale_inv", at::ones({2, 2})}}),
             Contains("expected two dimensions of F8_E4M3"));
  write_checkpoint(folder / "gptq", {{"model_type", "llama"}},
                   {{"q_proj.qweight", at::ones({2, 2})}});
  CHECK_THROWS_WITH(Checkpoint::open(folder / "gptq"), Contains("packed integers (GPTQ, AWQ)"));
}
