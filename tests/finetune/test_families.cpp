// Adapters on every family: those that peft wrote give its logits, and ours come back.
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/model/model.h"
#include "finetune/lora.h"
#include "finetune/qk_clip.h"

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

/// What a block's attention compares, pair by pair, in fp64: the largest of each head.
std::vector<double> pairwise(const at::Tensor& q, const at::Tensor& k, const Batch& batch,
                             const ModelConfig& c, int64_t window, double scale) {
  const at::Tensor queries = q.to(at::kDouble).view({q.size(0), c.heads, -1});
  const at::Tensor keys = k.to(at::kDouble).view({k.size(0), -1, queries.size(2)});
  std::vector<double> largest(static_cast<size_t>(c.heads), -1e30);
  for (size_t b = 0; b < batch.lengths.size(); ++b) {
    for (int64_t i = 0; i < batch.lengths[b]; ++i) {
      for (int64_t j = window > 0 ? std::max<int64_t>(0, i - window + 1) : 0; j <= i; ++j) {
        for (int64_t h = 0; h < c.heads; ++h) {
          const at::Tensor key = keys[batch.starts[b] + j][h * keys.size(1) / c.heads];
          const double score = scale * queries[batch.starts[b] + i][h].dot(key).item<double>();
          largest[static_cast<size_t>(h)] = std::max(largest[static_cast<size_t>(h)], score);
        }
      }
    }
  }
  return largest;
}

TEST_CASE("families: QK-clip bounds the logits of every kind of attention", "[families][qk_clip]") {
  std::vector<std::vector<int64_t>> sequences(2);
  for (int64_t t = 0; t < 12; ++t) sequences[0].push_back((7 * t + 3) % 50);
  for (int64_t t = 0; t < 5; ++t) sequences[1].push_back((11 * t + 1) % 50);
  const Batch batch = pack_sequences(sequences);
  const at::NoGradGuard no_grad;
  for (const std::string name : {"deepseek_v2", "deepseek_v3", "kimi_k2", "gpt2", "gpt_neox",
                                 "mistral", "minimax", "qwen2_sliding"}) {
    DYNAMIC_SECTION(name) {
      Model model = Model::load(data / name);
      const ModelConfig& c = model.config();
      for (int64_t l = 0; l < c.layers; ++l) {
        if (!c.is_linear(l)) model.block(l).q.weight.mul_(30);
      }
      using Logits = std::vector<std::vector<double>>;  // [layers, heads]
      const auto seen = [&] {
        const double scale = c.attention_scale > 0
                                 ? c.attention_scale
                                 : 1 / std::sqrt(static_cast<double>(c.key_dims()));
        Logits all;
        HiddenOptions look;
        look.on_query_key = [&](int64_t layer, const at::Tensor& q, const at::Tensor& k) {
          all.push_back(pairwise(q, k, batch, c, c.window(layer), scale));
        };
        model.hidden(batch, look);
        return all;
      };
      const Logits before = seen();
      const double tau = 0.7 * *std::max_element(before[0].begin(), before[0].end());
      REQUIRE(tau > 0);
      model.require_grad(true);
      const at::Tensor told = clip_attention(model, batch, tau);
      REQUIRE(told.size(0) == std::ssize(before));
      const Logits after = seen();
      for (size_t h = 0; h < before[0].size(); ++h) {
        // The first block sees what it saw: its logits are those of before, and afterwards tau.
        CHECK(told[0][static_cast<int64_t>(h)].item<double>() == Approx(before[0][h]).margin(1e-4));
        CHECK(after[0][h] == Approx(std::min(before[0][h], tau)).margin(1e-4));
      }
      for (const auto& layer : after) {
        for (const double logit : layer) CHECK(logit <= tau * (1 + 1e-5));
      }
    }
  }
}

}  // namespace
}  // namespace resurface
