#include "core/checkpoint/checkpoint.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/checkpoint/convert.h"
#include "core/checkpoint/inspect.h"
#include "core/run/error.h"
#include "core/run/resources.h"
#include "tests/core/checkpoint_files.h"

using namespace resurface;
using Catch::Matchers::Contains;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

Tensors some_tensors() {
  return {{"model.embed.weight", at::arange(12, at::kFloat).view({3, 4})},
          {"model.a.weight", at::arange(6, at::kFloat).view({2, 3}).to(at::kBFloat16)},
          {"model.b.weight", at::full({5}, 0.5)},
          {"model.c.steps", at::arange(4, at::kLong)}};
}

/// A checkpoint of some_tensors() in two shards, with a tokenizer beside it.
void write_sharded(const fs::path& folder) {
  auto t = some_tensors();
  write_safetensors(folder / "model-00001-of-00002.safetensors", {t[0], t[1]},
                    {{"format", "pt"}, {"x", "1"}});
  write_safetensors(folder / "model-00002-of-00002.safetensors", {t[2], t[3]});
  json index = {{"metadata", {{"total_size", 48 + 12 + 20 + 32}}},
                {"weight_map",
                 {{"model.embed.weight", "model-00001-of-00002.safetensors"},
                  {"model.a.weight", "model-00001-of-00002.safetensors"},
                  {"model.b.weight", "model-00002-of-00002.safetensors"},
                  {"model.c.steps", "model-00002-of-00002.safetensors"}}}};
  write(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  write(folder / "config.json", "{\"model_type\": \"llama\",\n   \"rms_norm_eps\": 1e-05}\n");
  write(folder / "tokenizer.json", "{ }  as it was");
  write(folder / "pytorch_model.bin", "stale");
}

}  // namespace

TEST_CASE("checkpoint: shards read as one, and the hash does not see them") {
  Folder folder;
  write_sharded(folder / "shards");
  Checkpoint shards = Checkpoint::open(folder / "shards");
  CHECK(shards.config()["model_type"] == "llama");
  CHECK(shards.tensors().size() == 4);
  for (const auto& [name, value] : some_tensors()) same(shards.tensor(name), value);
  CHECK(shards.contains("model.a.weight"));
  CHECK(!shards.contains("model.z.weight"));
  CHECK_THROWS_WITH(shards.tensor("model.a.wieght"), Contains("did you mean 'model.a.weight'"));

  auto tensors = some_tensors();
  std::ranges::reverse(tensors);
  write_checkpoint(folder / "one", shards.config(), tensors);
  Checkpoint one = Checkpoint::open(folder / "one");
  CHECK(one.content_hash() == shards.content_hash());
  CHECK(one.content_hash().size() == 32);

  // One bit, a dtype, a shape or a name makes another hash.
  auto hash_of = [&](const Tensors& t) {
    write_checkpoint(folder / "other", shards.config(), t);
    return Checkpoint::open(folder / "other").content_hash();
  };
  CHECK(hash_of(some_tensors()) == one.content_hash());
  std::set<std::string> hashes = {one.content_hash()};
  auto t = some_tensors();
  t[2].second[4] = 0.50000006f;
  hashes.insert(hash_of(t));
  t = some_tensors();
  t[3].second = t[3].second.view(at::kDouble);
  hashes.insert(hash_of(t));
  t = some_tensors();
  t[0].second = t[0].second.view({4, 3});
  hashes.insert(hash_of(t));
  t = some_tensors();
  t[0].first = "model.embed.bias";
  hashes.insert(hash_of(t));
  CHECK(hashes.size() == 5);
}

TEST_CASE("checkpoint: save_with changes what it is given and nothing else") {
  Folder folder;
  write_sharded(folder / "in");
  Checkpoint in = Checkpoint::open(folder / "in");
  at::Tensor changed = at::arange(5, at::kFloat);
  in.save_with(folder / "out", {{"model.b.weight", changed}});

  CHECK(names_in(folder / "out") ==
        std::set<std::string>{"config.json", "model-00001-of-00002.safetensors", "tokenizer.json",
                              "model-00002-of-00002.safetensors", "model.safetensors.index.json"});
  for (const char* name : {"config.json", "tokenizer.json", "model-00001-of-00002.safetensors",
                           "model.safetensors.index.json"}) {
    INFO(name);
    CHECK(json(read(folder / "out" / name)) == json(read(folder / "in" / name)));
  }
  SafetensorsFile before(folder / "in" / "model-00002-of-00002.safetensors");
  SafetensorsFile after(folder / "out" / "model-00002-of-00002.safetensors");
  CHECK(after.metadata() == before.metadata());
  CHECK(after.bytes("model.c.steps") == before.bytes("model.c.steps"));
  same(after.tensor("model.b.weight"), changed);

  SECTION("nothing replaced is the same checkpoint") {
    in.save_with(folder / "same", {});
    CHECK(Checkpoint::open(folder / "same").content_hash() == in.content_hash());
    CHECK(read(folder / "same" / "model-00002-of-00002.safetensors") ==
          read(folder / "in" / "model-00002-of-00002.safetensors"));
  }
  SECTION("a new tensor joins") {
    in.save_with(folder / "more", {{"lm_head.weight", at::ones({2, 2})}});
    Checkpoint more = Checkpoint::open(folder / "more");
    same(more.tensor("lm_head.weight"), at::ones({2, 2}));
    CHECK(json::parse(read(folder / "more" /
                           "model.safetensors.index.json"))["metadata"]["total_size"] == 112 + 16);
  }
  SECTION("in place") {
    in.save_with(folder / "in", {{"model.b.weight", changed}});
    same(Checkpoint::open(folder / "in").tensor("model.b.weight"), changed);
    same(in.tensor("model.b.weight"), at::full({5}, 0.5));  // the old mapping still stands
  }
  SECTION("refusals") {
    CHECK_THROWS_WITH(in.save_with(folder / "x", {{"model.b.weight", at::ones({4})}}),
                      Contains("'model.b.weight': expected shape [5], got [4]"));
    write(folder / "mine" / "thesis.txt", "dear");
    CHECK_THROWS_WITH(in.save_with(folder / "mine", {}), Contains("holds other files"));
    CHECK(read(folder / "mine" / "thesis.txt") == "dear");
    CHECK(!fs::exists(folder / "x"));
  }
}

TEST_CASE("checkpoint: broken folders are refused, saying what is missing") {
  Folder folder;
  fs::path dir = folder / "c";
  CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("no such folder"));
  write_sharded(dir);
  auto edit_index = [&](const std::function<void(json&)>& edit) {
    json index = json::parse(read(dir / "model.safetensors.index.json"));
    edit(index);
    write(dir / "model.safetensors.index.json", index.dump());
  };
  SECTION("no config") {
    fs::remove(dir / "config.json");
    CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("config.json is missing"));
  }
  SECTION("config is no object") {
    write(dir / "config.json", "[1]");
    CHECK_THROWS_WITH(Checkpoint::open(dir),
                      Contains("config.json: expected a JSON object, got array"));
  }
  SECTION("no weights") {
    fs::remove(dir / "model.safetensors.index.json");
    fs::remove(dir / "model-00001-of-00002.safetensors");
    fs::remove(dir / "model-00002-of-00002.safetensors");
    fs::remove(dir / "pytorch_model.bin");
    CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("neither model.safetensors"));
    write(dir / "m.gguf", "GGUF");
    CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("m.gguf") && Contains("resurface convert"));
    write(dir / "a.bin", "x");
    write(dir / "b.pt", "x");
    write(dir / "training_args.bin", "x");
    fs::remove(dir / "m.gguf");
    CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("it has a.bin, b.pt: name the file"));
    fs::remove(dir / "a.bin");
    fs::remove(dir / "b.pt");
    write(dir / "consolidated.safetensors", "x");
    CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("it has consolidated.safetensors: name"));
  }
  SECTION("a missing shard") {
    fs::remove(dir / "model-00002-of-00002.safetensors");
    CHECK_THROWS_WITH(Checkpoint::open(dir),
                      Contains("shard model-00002-of-00002.safetensors is missing"));
  }
  SECTION("a tensor that its shard does not hold") {
    edit_index([](json& i) { i["weight_map"]["ghost"] = "model-00001-of-00002.safetensors"; });
    CHECK_THROWS_WITH(Checkpoint::open(dir),
                      Contains("'ghost' is listed for model-00001-of-00002.safetensors"));
  }
  SECTION("a tensor that the index does not list") {
    edit_index([](json& i) { i["weight_map"].erase("model.a.weight"); });
    CHECK_THROWS_WITH(Checkpoint::open(dir),
                      Contains("holds tensor 'model.a.weight', which is not listed"));
  }
  SECTION("paths that leave the folder") {
    for (const char* name : {"../c/model-00001-of-00002.safetensors", "/etc/passwd", "", "sub/"}) {
      edit_index([&](json& i) { i["weight_map"]["model.a.weight"] = name; });
      CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("is no file inside this folder"));
    }
  }
  SECTION("an index without a map") {
    write(dir / "model.safetensors.index.json", "{}");
    CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("expected an object 'weight_map'"));
  }
}

TEST_CASE("checkpoint: convert changes dtypes and shards, values as far as the dtype has them") {
  Folder folder;
  write_sharded(folder / "in");
  convert_checkpoint(folder / "in", folder / "bf16", {.dtype = at::kBFloat16, .shard_size = 30});
  Checkpoint bf16 = Checkpoint::open(folder / "bf16");
  CHECK(bf16.files().size() == 3);  // 24 | 12 + 10 | 32 bytes
  CHECK(bf16.config()["torch_dtype"] == "bfloat16");
  CHECK(read(folder / "bf16" / "tokenizer.json") == "{ }  as it was");
  for (const auto& [name, value] : some_tensors()) {
    same(bf16.tensor(name), value.is_floating_point() ? value.to(at::kBFloat16) : value);
  }
  convert_checkpoint(folder / "in", folder / "one", {});
  CHECK(Checkpoint::open(folder / "one").content_hash() ==
        Checkpoint::open(folder / "in").content_hash());
  CHECK(fs::exists(folder / "one" / "model.safetensors"));

  write_checkpoint(folder / "large", {{"model_type", "llama"}}, {{"w", at::full({2}, 70000.0f)}});
  CHECK_THROWS_WITH(convert_checkpoint(folder / "large", folder / "half", {.dtype = at::kHalf}),
                    Contains("'w': its values do not fit F16"));
  CHECK(!fs::exists(folder / "half"));
  CHECK_THROWS_WITH(convert_checkpoint(folder / "in", folder / "x", {.q8_0 = true}),
                    Contains("name one (.gguf)"));
  CHECK_THROWS_WITH(Checkpoint::open(folder / "in", folder / "one"), Contains("is no adapter"));
  CHECK_THROWS_WITH(convert_checkpoint(folder / "in", folder / "x", {.dtype = at::kLong}),
                    Contains("Long"));
}

TEST_CASE("checkpoint: inspect counts") {
  Folder folder;
  write_sharded(folder / "in");
  auto report = inspect_checkpoint(folder / "in");
  CHECK(report["architecture"] == "llama");
  CHECK(report["parameters"] == 12 + 6 + 5 + 4);
  CHECK(report["bytes"] == 48 + 12 + 20 + 32);
  CHECK(json(report["dtypes"]["F32"]) == json{{"tensors", 2}, {"parameters", 17}, {"bytes", 68}});
  CHECK(report["dtypes"]["BF16"]["bytes"] == 12);
  CHECK(report["tensors"].size() == 4);
  CHECK(report["tensors"][0]["shape"] == json{3, 4});
  CHECK(report["files"][1]["name"] == "model-00002-of-00002.safetensors");
  CHECK(report["content_hash"] == Checkpoint::open(folder / "in").content_hash());
}

TEST_CASE("checkpoint: what torch.save wrote opens, hashes the same and is saved as safetensors") {
  Folder folder;
  const fs::path data = fs::path(RESURFACE_TEST_DATA) / "checkpoint/pickle";
  const SafetensorsFile state(data / "state.safetensors");
  Tensors tensors;
  for (const TensorInfo& t : state.tensors()) tensors.emplace_back(t.name, state.tensor(t.name));
  write_checkpoint(folder / "plain", {{"model_type", "llama"}}, tensors);
  const std::string hash = Checkpoint::open(folder / "plain").content_hash();

  write(folder / "bin" / "config.json", "{\"model_type\": \"llama\"}");
  write(folder / "bin" / "pytorch_model.bin", read(data / "legacy.bin"));
  write(folder / "bin" / "optimizer.pt", "other state");
  const Checkpoint bin = Checkpoint::open(folder / "bin");
  CHECK(bin.content_hash() == hash);
  CHECK(Checkpoint::open(folder / "bin" / "pytorch_model.bin").content_hash() == hash);
  bin.save_with(folder / "saved", {{"scalar", at::scalar_tensor(7.0)}});
  CHECK(names_in(folder / "saved") == std::set<std::string>{"config.json", "model.safetensors"});
  const Checkpoint saved = Checkpoint::open(folder / "saved");
  same(saved.tensor("turned"), state.tensor("turned"));
  same(saved.tensor("scalar"), at::scalar_tensor(7.0));

  // One file of any name beside the config, and shards.
  fs::rename(folder / "bin" / "pytorch_model.bin", folder / "bin" / "weights.pt");
  CHECK(Checkpoint::open(folder / "bin").content_hash() == hash);
  fs::rename(folder / "bin" / "weights.pt", folder / "bin" / "pytorch_model-00001-of-00002.bin");
  write(folder / "bin" / "pytorch_model-00002-of-00002.bin", read(data / "training.pt"));
  json map = json::object();
  for (const TensorInfo& t : state.tensors()) map[t.name] = "pytorch_model-00001-of-00002.bin";
  for (const char* name : {"half", "brain"}) map[name] = "pytorch_model-00002-of-00002.bin";
  const auto index = [&] {
    write(folder / "bin" / "pytorch_model.bin.index.json",
          json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}.dump());
  };
  index();
  CHECK_THROWS_WITH(Checkpoint::open(folder / "bin"),
                    Contains("holds tensor 'half', which is listed for"));
  write(folder / "bin" / "pytorch_model-00002-of-00002.bin", read(data / "state.bin"));
  for (const TensorInfo& t : state.tensors()) map[t.name] = "pytorch_model-00002-of-00002.bin";
  map["fp8"] = map["wide"] = "pytorch_model-00002-of-00002.bin";
  index();
  const Checkpoint sharded = Checkpoint::open(folder / "bin");
  sharded.save_with(folder / "shards", {});
  CHECK(names_in(folder / "shards") == std::set<std::string>{"config.json",
                                                             "model-00002-of-00002.safetensors",
                                                             "model.safetensors.index.json"});
  CHECK(Checkpoint::open(folder / "shards").content_hash() == sharded.content_hash());
  fs::remove(folder / "bin" / "pytorch_model-00002-of-00002.bin");
  CHECK_THROWS_WITH(Checkpoint::open(folder / "bin"),
                    Contains("shard pytorch_model-00002-of-00002.bin is missing"));
  convert_checkpoint(folder / "plain", folder / "fp16", {.dtype = at::kHalf});
  CHECK(Checkpoint::open(folder / "fp16").tensor("double").scalar_type() == at::kHalf);
}

TEST_CASE("checkpoint: what was copied out of a file is not held twice") {
  Folder folder;
  constexpr int64_t count = 8, bytes = 8 << 20;
  Tensors tensors;
  for (int64_t i = 0; i < count; ++i) {
    tensors.emplace_back(fmt::format("w{}", i), at::full({bytes / 4}, static_cast<double>(i)));
  }
  write_checkpoint(folder / "c", {{"model_type", "llama"}}, tensors);
  tensors.clear();
  const Checkpoint checkpoint = Checkpoint::open(folder / "c");
  if (!reset_peak_memory()) return;
  const int64_t before = peak_memory();
  std::vector<at::Tensor> loaded;
  for (const TensorInfo& t : checkpoint.tensors()) {
    loaded.push_back(checkpoint.tensor(t.name).clone());
  }
  CHECK(loaded[3][5].item<float>() == 3);
  CHECK(checkpoint.tensor("w3")[5].item<float>() == 3);  // read anew
  CHECK(peak_memory() - before < (count + 2) * bytes);
}
