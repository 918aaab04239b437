#include "core/checkpoint/convert.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/inspect.h"
#include "core/checkpoint/lora_merge.h"
#include "tests/core/checkpoint_files.h"

using namespace resurface;
using Catch::Matchers::Contains;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

fs::path data(const std::string& name) {
  return fs::path(RESURFACE_TEST_DATA) / "checkpoint" / "adapters" / name;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace

TEST_CASE("adapter: reads as what peft merges it to") {
  for (const std::string name : {"lora", "rslora", "dora", "saved", "turned"}) {
    INFO(name);
    const Checkpoint merged = Checkpoint::open(data(name));
    const Checkpoint base = Checkpoint::open(merged.folder());
    const SafetensorsFile expected(data(name) / "merged.safetensors");
    CHECK(merged.adapter() == data(name));
    CHECK(merged.contains("lm_head.weight") == base.contains("lm_head.weight"));
    size_t changed = 0;
    for (const TensorInfo& t : merged.tensors()) {
      INFO(t.name);
      const at::Tensor value = merged.tensor(t.name);
      CHECK(value.scalar_type() == t.dtype);
      CHECK(value.sizes() == at::IntArrayRef(t.shape));
      if (!expected.contains(t.name)) {
        same(value, base.tensor(t.name));
        continue;
      }
      ++changed;
      const double ulp = t.dtype == at::kBFloat16 ? 1.0 / 128 : 1e-6;
      CHECK(distance(value, expected.tensor(t.name)) <=
            ulp * expected.tensor(t.name).abs().max().item<double>());
      CHECK(distance(value, base.tensor(t.name)) > 0);
    }
    // A tied head is one tensor on disk and two in peft's state dict.
    CHECK(changed >= expected.tensors().size() - 1);
    CHECK(changed > 0);
  }
}

TEST_CASE("adapter: merged, saved and converted, with the base's other files") {
  Folder folder;
  const Checkpoint merged = Checkpoint::open(data("lora"));
  fs::copy(data("llama"), folder / "llama", fs::copy_options::recursive);
  fs::copy(data("lora"), folder / "lora", fs::copy_options::recursive);
  write(folder / "llama" / "tokenizer.json", "of the base");
  write(folder / "llama" / "special.txt", "of the base");
  write(folder / "lora" / "tokenizer.json", "of the adapter");
  CHECK(checkpoint_file(folder / "lora", "tokenizer.json") == folder / "lora" / "tokenizer.json");
  CHECK(read(checkpoint_file(folder / "lora", "special.txt")) == "of the base");
  CHECK(checkpoint_file(folder / "llama", "none") == folder / "llama" / "none");

  convert_checkpoint(folder / "lora", folder / "converted", {});
  Checkpoint::open(folder / "lora")
      .save_with(folder / "saved", {{"model.norm.weight", at::zeros({8})}});
  for (const char* name : {"converted", "saved"}) {
    const Checkpoint out = Checkpoint::open(folder / name);
    CHECK(out.adapter().empty());
    same(out.tensor("model.layers.1.self_attn.q_proj.weight"),
         merged.tensor("model.layers.1.self_attn.q_proj.weight"));
    CHECK(read(folder / name / "tokenizer.json") == "of the adapter");
    CHECK(read(folder / name / "special.txt") == "of the base");
    CHECK(!fs::exists(folder / name / "adapter_config.json"));
  }
  CHECK(Checkpoint::open(folder / "converted").content_hash() == merged.content_hash());
  same(Checkpoint::open(folder / "saved").tensor("model.norm.weight"), at::zeros({8}));
  CHECK(inspect_checkpoint(folder / "lora")["content_hash"] == merged.content_hash());
  CHECK(inspect_checkpoint(folder / "lora")["base"] == (folder / "lora" / "../llama").string());
}

TEST_CASE("adapter: a head of its own unties, larger embeddings change the vocabulary") {
  Folder folder;
  const Checkpoint base = Checkpoint::open(data("gpt2"));
  fs::create_directories(folder / "a");
  const json config = {{"peft_type", "LORA"},
                       {"r", 1},
                       {"lora_alpha", 1},
                       {"base_model_name_or_path", data("gpt2").string()}};
  write_json(folder / "a" / "adapter_config.json", config);
  const at::Tensor wte = base.tensor("transformer.wte.weight"),
                   larger = at::cat({wte, wte.slice(0, 0, 2)});
  const std::string p = "base_model.model.";
  write_safetensors(folder / "a" / "adapter_model.safetensors",
                    {{p + "transformer.wte.weight", larger},
                     {p + "lm_head.lora_A.weight", at::ones({1, 8})},
                     {p + "lm_head.lora_B.weight", at::ones({16, 1})}});
  const Checkpoint merged = Checkpoint::open(folder / "a");
  CHECK(merged.config()["vocab_size"] == 18);
  CHECK(merged.config()["tie_word_embeddings"] == false);
  CHECK(merged.tensor("transformer.wte.weight").size(0) == 18);
  CHECK(distance(merged.tensor("lm_head.weight"), wte + 1) < 1e-6);
  merged.save_with(folder / "out", {});
  CHECK(Checkpoint::open(folder / "out").content_hash() == merged.content_hash());
  CHECK(Checkpoint::open(folder / "out").config()["vocab_size"] == 18);
}

TEST_CASE("adapter: what cannot be merged is refused, saying what to do") {
  Folder folder;
  const fs::path dir = folder / "a";
  fs::copy(data("lora"), dir, fs::copy_options::recursive);
  json config = json::parse(read(dir / "adapter_config.json"));
  config["base_model_name_or_path"] = data("llama").string();
  const auto with = [&](const std::string& key, const json& value) {
    json changed = config;
    changed[key] = value;
    write(dir / "adapter_config.json", changed.dump());
    return message_of([&] { Checkpoint::open(dir); });
  };
  CHECK(with("bias", "none") == "opened");
  CHECK_THAT(with("peft_type", "IA3"),
             Contains("peft_type \"IA3\"") && Contains("merge_and_unload"));
  CHECK_THAT(with("lora_bias", true), Contains("lora_bias = true"));
  CHECK_THAT(with("layer_replication", json{{0, 1}}), Contains("layer_replication"));
  CHECK_THAT(with("init_lora_weights", "pissa"), Contains("changes the base too"));
  CHECK_THAT(with("use_dora", true), Contains("lacks its lora_magnitude_vector"));
  CHECK_THAT(with("r", 5), Contains("lora_A has rank") && Contains("makes it 5"));
  CHECK_THAT(with("lora_alpha", 0), Contains("lora_alpha: expected a number above 0"));
  CHECK_THAT(with("rank_pattern", 3), Contains("rank_pattern: expected an object"));
  CHECK_THAT(with("rank_pattern", {{"q_proj(", 2}}), Contains("rank_pattern"));
  CHECK_THAT(with("base_model_name_or_path", "meta-llama/Llama-2-7b"),
             Contains("'meta-llama/Llama-2-7b'") || Contains("\"meta-llama/Llama-2-7b\""));
  CHECK_THAT(with("base_model_name_or_path", nullptr), Contains("resurface convert --base DIR"));
  Checkpoint::open(dir, data("llama"));  // a base that is given wins
  CHECK_THAT(with("base_model_name_or_path", data("gpt2").string()),
             Contains("which the base does not have") && Contains("is this the base"));
  CHECK_THROWS_WITH(Checkpoint::open(dir, data("lora")), Contains("is an adapter itself"));
  with("bias", "none");
  fs::remove(dir / "adapter_model.safetensors");
  CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("neither adapter_model.safetensors nor"));
  write(dir / "adapter_model.safetensors", "GGUF");
  CHECK_THROWS_WITH(Checkpoint::open(dir), Contains("is a GGUF file"));
}

TEST_CASE("adapter: written and read back as peft has it") {
  Folder folder;
  fs::path dir = folder / "adapter";
  std::vector<AdapterTensor> tensors = {
      {"model.layers.0.self_attn.q_proj", at::randn({4, 8}), at::randn({6, 4})},
      {"model.layers.1.mlp.down_proj", at::randn({4, 3}), at::randn({8, 4})}};
  write_adapter(dir, "some/base", tensors, 4, 8);
  SafetensorsFile file(dir / "adapter_model.safetensors");
  CHECK(file.contains("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"));
  CHECK(file.contains("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"));
  json config = json::parse(read(dir / "adapter_config.json"));
  CHECK(config["r"] == 4);
  CHECK(config["peft_type"] == "LORA");
  CHECK(config["base_model_name_or_path"] == "some/base");
  CHECK(config["target_modules"] ==
        json{"model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"});

  int64_t rank = 0;
  double alpha = 0;
  auto back = read_adapter(dir, rank, alpha);
  CHECK(rank == 4);
  CHECK(alpha == 8);
  REQUIRE(back.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(back[i].linear == tensors[i].linear);
    same(back[i].a, tensors[i].a);
    same(back[i].b, tensors[i].b);
  }
  auto with = [&](const char* key, const json& value) {
    json changed = config;
    changed[key] = value;
    write(dir / "adapter_config.json", changed.dump());
    read_adapter(dir, rank, alpha);
  };
  with("use_rslora", true);
  CHECK(alpha == Approx(16));  // alpha / sqrt(4) = 16 / 4
  CHECK_THROWS_WITH(with("use_dora", true), Contains("lora_magnitude_vector"));
  CHECK_THROWS_WITH(with("rank_pattern", {{"q_proj", 2}}), Contains("rank_pattern"));
  CHECK_THROWS_WITH(with("peft_type", "IA3"), Contains("expected peft_type \"LORA\", got \"IA3\""));
  CHECK_THROWS_WITH(with("r", 2), Contains("expected lora_A [2, in]"));
  CHECK_THROWS_WITH(with("lora_alpha", "x"), Contains("lora_alpha: expected a number above 0"));
  fs::remove(dir / "adapter_config.json");
  CHECK_THROWS_WITH(read_adapter(dir, rank, alpha), Contains("adapter_config.json is missing"));
  CHECK_THROWS_WITH(write_adapter(folder / "wrong", "b", tensors, 3, 8),
                    Contains("expected A [3, in]"));
}
