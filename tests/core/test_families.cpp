// Every family against transformers: tiny checkpoints with random weights, and what transformers
// says with them (scripts/golden_families.py).
#include <catch2/catch.hpp>
#include <fstream>

#include "core/checkpoint/checkpoint.h"
#include "core/model/anatomy.h"
#include "core/model/families.h"
#include "core/model/generate.h"
#include "core/model/model.h"
#include "tests/devices.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

const fs::path data = fs::path(RESURFACE_TEST_DATA) / "families";

std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(data)) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<int64_t> ids_of(const at::Tensor& tensor) {
  const at::Tensor all = tensor.to(at::kLong).contiguous();
  return {all.const_data_ptr<int64_t>(), all.const_data_ptr<int64_t>() + all.numel()};
}

/// The sequences of a golden file.
std::vector<std::vector<int64_t>> sequences_of(const SafetensorsFile& golden) {
  const auto ids = ids_of(golden.tensor("ids"));
  std::vector<std::vector<int64_t>> all;
  auto at = ids.begin();
  for (const int64_t length : ids_of(golden.tensor("lengths"))) {
    all.emplace_back(at, at + length);
    at += length;
  }
  return all;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a.detach().cpu().to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

at::Tensor all_logits(const Model& model, const std::vector<std::vector<int64_t>>& sequences) {
  const at::NoGradGuard no_grad;
  return model.logits(model.hidden(pack_sequences(sequences, model.device())));
}

TEST_CASE("families: logits", "[families]") {
  for (const at::Device device : devices()) {
    for (const auto& name : variants()) {
      DYNAMIC_SECTION(name << " on " << device.str()) {
        const SafetensorsFile golden(data / name / "golden.safetensors");
        const Model model = Model::load(data / name, device);
        const auto sequences = sequences_of(golden);
        // All at once, and each alone.
        CHECK(distance(all_logits(model, sequences), golden.tensor("logits")) < 1e-4);
        int64_t begin = 0;
        for (const auto& one : sequences) {
          CHECK(distance(all_logits(model, {one}),
                         golden.tensor("logits").narrow(0, begin, std::ssize(one))) < 1e-4);
          begin += std::ssize(one);
        }
      }
    }
  }
}

TEST_CASE("families: transformers 5 writes the same settings in other words", "[families]") {
  for (const auto& name : variants()) {
    if (!fs::exists(data / name / "config_transformers5.json")) continue;
    DYNAMIC_SECTION(name) {
      const fs::path folder = fs::temp_directory_path() / fmt::format("resurface-t5-{}", getpid());
      fs::create_directories(folder);
      fs::copy_file(data / name / "config_transformers5.json", folder / "config.json");
      fs::copy_file(data / name / "model.safetensors", folder / "model.safetensors");
      const SafetensorsFile golden(data / name / "golden.safetensors");
      CHECK(distance(all_logits(Model::load(folder), sequences_of(golden)),
                     golden.tensor("logits")) < 1e-4);
      fs::remove_all(folder);
    }
  }
}

TEST_CASE("families: sizes that no model has are refused", "[families]") {
  std::ifstream stream(data / "llama" / "config.json");
  const auto good = nlohmann::json::parse(stream);
  const auto said = [&](const char* key, const nlohmann::json& value) {
    auto config = good;
    config[key] = value;
    try {
      read_model_config(config, "config.json");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(said("num_hidden_layers", 2.0).empty());
  CHECK_THAT(said("num_hidden_layers", 1e300),
             Catch::Contains("'num_hidden_layers' has the wrong"));
  CHECK_THAT(said("num_hidden_layers", 2.5), Catch::Contains("'num_hidden_layers' has the wrong"));
  CHECK_THAT(said("num_hidden_layers", 1 << 20), Catch::Contains("at most 4096"));
  CHECK_THAT(said("vocab_size", int64_t{1} << 40),
             Catch::Contains("'vocab_size' is 1099511627776"));
  CHECK_THAT(said("hidden_size", 0), Catch::Contains("'hidden_size' is 0"));
}

TEST_CASE("families: gradients", "[families]") {
  for (const at::Device device : devices()) {
    for (const auto& name : variants()) {
      DYNAMIC_SECTION(name << " on " << device.str()) {
        const SafetensorsFile golden(data / name / "golden.safetensors");
        if (!golden.contains("loss")) continue;
        const Checkpoint stored = Checkpoint::open(data / name);
        Model model = Model::load(data / name, device);
        std::vector<Example> examples;
        for (const auto& ids : sequences_of(golden)) {
          if (ids.size() > 1) {
            examples.push_back({.prompt = {ids[0]}, .answer = {ids.begin() + 1, ids.end()}});
          }
        }
        for (const bool checkpointing : {false, true}) {
          model.set_checkpointing(checkpointing);
          model.require_grad(true);
          const at::Tensor loss = model.token_nll(pack(std::span<const Example>(examples), device));
          CHECK(distance(loss, golden.tensor("loss")[0]) < 1e-5);
          loss.backward();
          std::map<std::string, at::Tensor> gradients;  // as the tensors lie in the file
          for (const auto& [parameter, value] : model.parameters()) {
            const Place place = place_of(model.config(), parameter);
            auto& whole = gradients[place.name];
            if (!whole.defined()) whole = at::zeros_like(stored.tensor(place.name), at::kFloat);
            if (value.grad().defined()) place.of(whole).copy_(place.shaped(value.grad()));
            value.mutable_grad().reset();
          }
          size_t compared = 0;
          for (const TensorInfo& info : golden.tensors()) {
            if (!info.name.starts_with("grad.")) continue;
            INFO(info.name);
            const auto found = gradients.find(info.name.substr(5));
            REQUIRE(found != gradients.end());
            CHECK(distance(found->second, golden.tensor(info.name)) < 1e-4);
            ++compared;
          }
          CHECK(compared == gradients.size());
        }
      }
    }
  }
}

TEST_CASE("families: cached generation", "[families]") {
  for (const at::Device device : devices()) {
    for (const auto& name : variants()) {
      DYNAMIC_SECTION(name << " on " << device.str()) {
        const SafetensorsFile golden(data / name / "golden.safetensors");
        if (!golden.contains("generated.0")) continue;
        const Model model = Model::load(data / name, device);
        const std::vector<std::vector<int64_t>> prompts = {ids_of(golden.tensor("prompt.0")),
                                                           ids_of(golden.tensor("prompt.1"))};
        const std::vector<std::vector<int64_t>> want = {ids_of(golden.tensor("generated.0")),
                                                        ids_of(golden.tensor("generated.1"))};
        CHECK(generate(model, prompts, {.max_tokens = std::ssize(want[0])}) == want);
        const auto& rope = model.config().rope;
        if (rope && rope->type == "longrope") continue;  // a cache does not outlive the crossing

        const at::NoGradGuard no_grad;
        for (size_t i = 0; i < prompts.size(); ++i) {
          KvCache cache = model.empty_cache(1, 64);
          std::vector<int64_t> input = prompts[i];
          for (size_t step = 0; step < want[i].size(); ++step) {
            Batch batch = pack_sequences(std::vector<std::vector<int64_t>>{input}, device);
            batch.positions = batch.positions + cache.lengths[0];
            const at::Tensor last = model.hidden(
                batch,
                {.rows = at::tensor({batch.tokens() - 1}, at::device(device).dtype(at::kLong)),
                 .cache = &cache,
                 .append = true});
            const auto row = golden.tensor(fmt::format("generated_logits.{}", i))
                                 .narrow(0, static_cast<int64_t>(step), 1);
            CHECK(distance(model.logits(last), row) < 1e-4);
            cache.lengths[0] += std::ssize(input);
            input = {want[i][step]};
          }
        }
      }
    }
  }
}

TEST_CASE("families: saving keeps the bytes of what did not change", "[families]") {
  for (const auto& name : variants()) {
    DYNAMIC_SECTION(name) {
      const fs::path out = fs::temp_directory_path() / fmt::format("resurface-family-{}", getpid());
      Model model = Model::load(data / name);
      const std::string changed = model.block(1).o.name + ".weight";
      {
        const at::NoGradGuard no_grad;
        const at::Tensor weight = model.parameter(changed);
        weight.mul_(at::linspace(0.5, 2, weight.numel()).view_as(weight));
      }
      model.save(out, data / name);
      const Place place = place_of(model.config(), changed);
      const SafetensorsFile before(data / name / "model.safetensors"),
          after(out / "model.safetensors");
      CHECK(before.tensors().size() == after.tensors().size());
      for (const TensorInfo& info : before.tensors()) {
        INFO(info.name);
        const bool same = before.bytes(info.name) == after.bytes(info.name);
        const bool touched = place.name == info.name ||
                             place.name.ends_with("." + info.name) ||  // bare names
                             place.name + "_scale_inv" == info.name;   // of fp8
        CHECK(same == !touched);
      }
      const SafetensorsFile golden(data / name / "golden.safetensors");
      const Model again = Model::load(out);
      if (Checkpoint::open(data / name).fp8()) {  // three bits of mantissa are left of a change
        const at::Tensor want = model.parameter(changed).detach();
        CHECK(distance(again.parameter(changed), want) < want.abs().max().item<double>() / 16);
      } else {
        CHECK(distance(all_logits(again, sequences_of(golden)),
                       all_logits(model, sequences_of(golden))) < 1e-6);
      }
      fs::remove_all(out);
    }
  }
}

TEST_CASE("families: rows, resumption, keys and what the MLP gave", "[families]") {
  for (const auto& name : variants()) {
    DYNAMIC_SECTION(name) {
      const SafetensorsFile golden(data / name / "golden.safetensors");
      const Model model = Model::load(data / name);
      const at::NoGradGuard no_grad;
      const Batch batch = pack_sequences(sequences_of(golden));
      std::map<int64_t, at::Tensor> middle, input, output, after, keys;
      HiddenOptions options;
      options.on_attention = [&](int64_t l, const at::Tensor&, const at::Tensor& m,
                                 const at::Tensor& read) {
        middle[l] = m;
        input[l] = read;
      };
      options.on_mlp = [&](int64_t l, const at::Tensor& y) { output[l] = y; };
      options.on_block = [&](int64_t l, const at::Tensor& y) { after[l] = y; };
      options.on_key = [&](int64_t l, const at::Tensor& k) { keys[l] = k; };
      for (int64_t l = 0; l < model.layers(); ++l) {
        if (model.config().key_width(l) > 0) continue;
        for (int64_t e = 0; e < model.config().experts->count; ++e) {
          options.key_experts[l].push_back(e);
        }
      }
      const at::Tensor whole = model.hidden(batch, options);
      const at::Tensor rows = at::tensor({1, 6, 18}, at::kLong);
      for (int64_t l = 0; l < model.layers(); ++l) {
        CHECK(distance(model.mlp(l, input[l]), output[l]) < 1e-6);
        CHECK(distance(model.add_mlp(l, middle[l], output[l]), after[l]) < 1e-6);
        CHECK(distance(model.hidden(batch, {.first = l + 1, .start = after[l]}), whole) < 1e-6);
        CHECK(distance(model.hidden(batch, {.last = l + 1, .rows = rows}),
                       after[l].index_select(0, rows)) < 1e-5);
        REQUIRE(keys.contains(l));
        if (const int64_t width = model.config().key_width(l); width > 0) {
          CHECK(keys[l].size(1) == width);
          continue;
        }
        // Routed experts alone: one linear map of all their weighted activations.
        std::vector<at::Tensor> weights;
        for (const Mlp& expert : model.block(l).experts) weights.push_back(expert.down.weight);
        CHECK(distance(at::linear(keys[l], at::cat(weights, 1)), output[l]) < 1e-5);
        // Some of them alone, in any order, and nothing run behind.
        const int64_t width = model.config().experts->width;
        at::Tensor some;
        int64_t reported = 0;
        HiddenOptions few{.last = l + 1, .stop_at_key = true, .key_experts = {{l, {2, 0}}}};
        few.on_key = [&](int64_t at_layer, const at::Tensor& k) {
          if (at_layer == l) some = k;
          if (model.config().key_width(at_layer) == 0) ++reported;
        };
        CHECK(!model.hidden(batch, few).defined());
        CHECK(reported == 1);
        CHECK(distance(some,
                       at::cat({keys[l].narrow(1, 2 * width, width), keys[l].narrow(1, 0, width)},
                               1)) < 1e-6);
        CHECK(some.abs().amax().item<double>() > 0);
      }
    }
  }
}

TEST_CASE("families: parameters are those of the file, and FLOPs those of a hand count",
          "[families]") {
  for (const auto& name : variants()) {
    DYNAMIC_SECTION(name) {
      Model model = Model::load(data / name);
      const ModelConfig& c = model.config();
      int64_t total = 0;
      for (const auto& [parameter, value] : model.parameters()) total += value.numel();
      int64_t biases = 0;  // of routers: no gradient reaches them
      if (c.experts && c.experts->bias) {
        for (int64_t l = 0; l < c.layers; ++l) biases += c.has_experts(l) ? c.experts->count : 0;
      }
      CHECK(c.parameters() == total + biases);

      // Every weight that a token goes through, twice; and its pairs.
      const SafetensorsFile golden(data / name / "golden.safetensors");
      const Batch batch = pack_sequences(sequences_of(golden));
      const auto n = static_cast<double>(batch.tokens());
      double matrices = 0;
      for (const auto& [parameter, value] : model.parameters()) {
        if (value.dim() != 2 || parameter.find("embed") != std::string::npos) continue;
        if (parameter == "lm_head.weight" || parameter.ends_with("router_scale")) continue;
        const bool routed = parameter.find(".experts.") != std::string::npos;
        matrices += static_cast<double>(value.numel()) *
                    (routed ? static_cast<double>(c.experts->per_token) /
                                  static_cast<double>(c.experts->count)
                            : 1);
      }
      double mixing = 0;
      for (int64_t l = 0; l < c.layers; ++l) {
        for (const int64_t length : batch.lengths) {
          double pairs = 0;
          for (int64_t t = 0; t < length; ++t) {
            pairs += static_cast<double>(c.window(l) > 0 ? std::min(t + 1, c.window(l)) : t + 1);
          }
          if (c.is_linear(l)) {
            for (int64_t from = 0; from < length; from += c.linear->block) {
              const auto size = static_cast<double>(std::min(c.linear->block, length - from));
              const auto dim = static_cast<double>(c.head_dim);
              mixing += static_cast<double>(c.heads) * 4 * size * dim * (size + dim);
            }
          } else {
            mixing += 2 * pairs * static_cast<double>(c.heads * (c.key_dims() + c.value_dims()));
          }
        }
      }
      const double head = 2 * n * static_cast<double>(c.vocab_size * c.hidden_size);
      const at::NoGradGuard no_grad;
      model.reset_flops();
      model.logits(model.hidden(batch));
      CHECK(model.flops().forward == Approx(2 * n * matrices + mixing + head).epsilon(1e-12));
      double from_config = 0;
      for (const int64_t length : batch.lengths) from_config += forward_flops(c, length);
      CHECK(from_config == Approx(model.flops().forward).epsilon(1e-12));
      const auto described = describe_model(c);
      for (const auto& site : described["edit_sites"]) {
        for (int64_t e = 0; e < site.value("experts", int64_t{1}); ++e) {
          const auto numbered = [&](std::string pattern) {
            const auto at = pattern.find('*');
            CHECK((at != std::string::npos) == site.contains("experts"));
            return at == std::string::npos ? pattern : pattern.replace(at, 1, std::to_string(e));
          };
          const auto parameter = numbered(site["parameter"]);
          CHECK(numbered(site["stored"]) == place_of(c, parameter).name);
          CHECK(model.parameter(parameter).size(1) == site["key_width"]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace resurface
