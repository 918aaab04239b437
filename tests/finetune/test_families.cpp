// Adapters on every family: those that peft wrote give its logits, and ours come back.
#include <unistd.h>

#include <catch2/catch.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/model/model.h"
#include "finetune/lora.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

const fs::path data = fs::path(RESURFACE_TEST_DATA) / "families";

at::Tensor logits_of(const Model& model, const SafetensorsFile& golden) {
  const at::NoGradGuard no_grad;
  std::vector<std::vector<int64_t>> sequences;
  const at::Tensor ids = golden.tensor("ids").to(at::kLong);
  int64_t begin = 0;
  const at::Tensor lengths = golden.tensor("lengths").to(at::kLong);
  for (int64_t s = 0; s < lengths.size(0); ++s) {
    const auto length = lengths[s].item<int64_t>();
    const int64_t* at = ids.const_data_ptr<int64_t>() + begin;
    sequences.emplace_back(at, at + length);
    begin += length;
  }
  return model.logits(model.hidden(pack_sequences(sequences)));
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST_CASE("families: adapters of peft, and ours through a file", "[families]") {
  for (const auto& entry : fs::directory_iterator(data)) {
    const std::string name = entry.path().filename();
    if (!fs::exists(entry.path() / "adapter")) continue;
    DYNAMIC_SECTION(name) {
      const SafetensorsFile golden(entry.path() / "golden.safetensors");
      Model model = Model::load(entry.path());
      import_lora(model, entry.path() / "adapter");
      CHECK(distance(logits_of(model, golden), golden.tensor("lora_logits")) < 1e-4);

      const fs::path out = fs::temp_directory_path() / fmt::format("resurface-peft-{}", getpid());
      export_lora(model, out, "", false);
      Model other = Model::load(entry.path());
      import_lora(other, out);
      CHECK(distance(logits_of(other, golden), golden.tensor("lora_logits")) < 1e-4);
      fs::remove_all(out);

      merge_lora(model);
      CHECK(distance(logits_of(model, golden), golden.tensor("lora_logits")) < 1e-4);
    }
  }
}

}  // namespace
}  // namespace resurface
