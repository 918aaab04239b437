// The decoder against transformers (scripts/golden_model.py) and against itself by other roads.
#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/checkpoint/checkpoint.h"
#include "core/model/generate.h"
#include "core/model/model.h"
#include "core/run/error.h"
#include "core/tensor/ops.h"
#include "tests/devices.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

const fs::path data = fs::path(RESURFACE_TEST_DATA) / "model";
const std::vector<std::string> variants = {"tied", "untied-llama3", "linear"};

struct Golden {
  SafetensorsFile tensors;
  std::vector<Example> examples;
  std::vector<std::vector<int64_t>> greedy;
};

Golden golden(const std::string& variant) {
  Golden g{SafetensorsFile(data / variant / "golden.safetensors"), {}, {}};
  std::ifstream in(data / variant / "golden.json");
  for (const auto& e : nlohmann::json::parse(in)) {
    g.examples.push_back({.prompt = e["prompt"], .answer = e["answer"]});
    g.greedy.push_back(e["greedy"]);
  }
  return g;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.cpu().to(at::kDouble) - b.cpu().to(at::kDouble)).abs().max().item<double>();
}

ModelConfig tiny() {
  ModelConfig c;
  c.family = "llama";
  c.vocab_size = 53;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 6;
  c.context = 64;
  c.tied_head = true;
  return c;
}

std::vector<std::vector<int64_t>> prompts_of(const std::vector<Example>& examples) {
  std::vector<std::vector<int64_t>> prompts;
  for (const Example& e : examples) prompts.push_back(e.prompt);
  return prompts;
}

TEST_CASE("logits and gradients equal transformers'", "[model]") {
  for (const at::Device device : devices()) {
    for (const auto& variant : variants) {
      INFO(variant << " on " << device.str());
      const Golden g = golden(variant);
      Model model = Model::load(data / variant, device);
      {
        at::NoGradGuard no_grad;
        const Batch batch = pack(std::span<const Example>(g.examples), device, false);
        const at::Tensor logits = model.logits(model.hidden(batch));
        for (size_t i = 0; i < g.examples.size(); ++i) {
          const at::Tensor own = logits.narrow(0, batch.starts[i], batch.lengths[i]);
          CHECK(distance(own, g.tensors.tensor(fmt::format("logits.{}", i))) < 1e-4);
        }
      }
      for (const bool checkpointing : {false, true}) {
        model.set_checkpointing(checkpointing);
        model.require_grad(true);
        const at::Tensor loss = model.token_nll(pack(std::span<const Example>(g.examples), device));
        CHECK(distance(loss, g.tensors.tensor("loss")[0]) < 1e-5);
        loss.backward();
        for (const auto& [name, parameter] : model.parameters()) {
          INFO(name);
          CHECK(distance(parameter.grad(), g.tensors.tensor("grad." + name)) < 1e-4);
          parameter.mutable_grad().reset();
        }
      }
    }
  }
}

TEST_CASE("batched greedy generation equals transformers'", "[model]") {
  for (const at::Device device : devices()) {
    for (const auto& variant : variants) {
      const Golden g = golden(variant);
      const Model model = Model::load(data / variant, device);
      const auto prompts = prompts_of(g.examples);
      CHECK(generate(model, prompts, {.max_tokens = 8}) == g.greedy);
    }
  }
}

TEST_CASE("generation stops, samples and repeats itself", "[model]") {
  const Golden g = golden("tied");
  const Model model = Model::load(data / "tied");
  const auto prompts = prompts_of(g.examples);
  const int64_t stop = g.greedy[0][3];
  const auto stopped = generate(model, prompts, {.max_tokens = 8, .stop_ids = {stop}});
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto end = std::find(g.greedy[i].begin(), g.greedy[i].end(), stop);
    CHECK(stopped[i] == std::vector<int64_t>(g.greedy[i].begin(), end));
  }
  const GenerateOptions warm{
      .max_tokens = 12, .temperature = 1.3, .top_k = 20, .top_p = 0.9, .seed = 5};
  const auto first = generate(model, prompts, warm);
  CHECK(first == generate(model, prompts, warm));
  GenerateOptions other = warm;
  other.seed = 6;
  CHECK(first != generate(model, prompts, other));
  // One prompt's draw does not depend on its neighbours.
  const std::vector<std::vector<int64_t>> alone = {prompts[0]};
  CHECK(generate(model, alone, warm)[0] == first[0]);
  GenerateOptions narrow = warm;
  narrow.top_k = 1;
  CHECK(generate(model, prompts, narrow) == generate(model, prompts, {.max_tokens = 12}));
  narrow.top_k = 0;
  narrow.top_p = 1e-9;
  CHECK(generate(model, prompts, narrow) == generate(model, prompts, {.max_tokens = 12}));
}

TEST_CASE("generation: log-probs, how it ended, repetition and thresholds", "[model]") {
  const Golden g = golden("tied");
  const Model model = Model::load(data / "tied");
  const auto prompts = prompts_of(g.examples);
  const auto answers = continue_prompts(model, prompts, {.max_tokens = 8, .logprobs = true});
  for (size_t i = 0; i < prompts.size(); ++i) {  // scored again, without a cache
    CHECK(answers[i].ids == g.greedy[i]);
    CHECK_FALSE(answers[i].stopped);
    const std::vector<Example> one = {{.prompt = prompts[i], .answer = answers[i].ids}};
    const at::NoGradGuard no_grad;
    const at::Tensor want = model.token_logprob(pack(std::span<const Example>(one)));
    CHECK(distance(want, at::tensor(at::ArrayRef<double>(answers[i].logprob), at::kDouble)) < 1e-4);
  }
  const auto two = [](const std::vector<int64_t>& ids) { return ids.size() == 2; };
  const auto cut = continue_prompts(model, prompts, {.max_tokens = 8, .stops = two});
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(cut[i].ids == std::vector<int64_t>(g.greedy[i].begin(), g.greedy[i].begin() + 2));
    CHECK(cut[i].stopped);
  }

  // The penalty as its formula, step by step without a cache.
  constexpr double kPenalty = 1.7;
  const auto varied = generate(model, prompts, {.max_tokens = 8, .repetition_penalty = kPenalty});
  std::vector<int64_t> text = prompts[0];
  const at::NoGradGuard no_grad;
  for (const int64_t chosen : varied[0]) {
    at::Tensor row =
        model.logits(model.hidden(pack_sequences(std::vector<std::vector<int64_t>>{text})))
            .select(0, -1);
    row = row.clone();
    for (const int64_t id : std::set<int64_t>(text.begin(), text.end())) {
      const auto score = row[id].item<double>();
      row[id] = score < 0 ? score * kPenalty : score / kPenalty;
    }
    CHECK(row.argmax().item<int64_t>() == chosen);
    text.push_back(chosen);
  }
  CHECK(varied != g.greedy);
  // Nothing but the likeliest token is as likely as the likeliest.
  CHECK(generate(model, prompts, {.max_tokens = 8, .temperature = 1, .min_p = 1}) == g.greedy);
}

TEST_CASE("generation_config.json is obeyed, and what is not implemented refused", "[model]") {
  const fs::path folder = fs::temp_directory_path() / fmt::format("resurface-gen-{}", getpid());
  fs::create_directories(folder);
  const auto read = [&](const nlohmann::json& config) {
    std::ofstream(folder / "config.json") << R"({"eos_token_id": 9})";
    std::ofstream(folder / "generation_config.json") << config.dump();
    GenerateOptions options;
    read_generation_config(folder, options);
    return options;
  };
  const auto warm = read({{"do_sample", true},
                          {"temperature", 0.6},
                          {"top_p", 0.95},
                          {"repetition_penalty", 1.1},
                          {"max_new_tokens", 7},
                          {"eos_token_id", {3, 4}},
                          {"num_beams", 1},
                          {"penalty_alpha", nullptr}});
  CHECK(warm.temperature == 0.6);
  CHECK(warm.top_k == 50);  // transformers' own default
  CHECK(warm.top_p == 0.95);
  CHECK(warm.repetition_penalty == 1.1);
  CHECK(warm.max_tokens == 7);
  CHECK(warm.stop_ids == std::vector<int64_t>{3, 4, 9});
  CHECK(read({{"temperature", 0.6}}).temperature == 0);  // does not sample
  CHECK_THROWS_WITH(read({{"num_beams", 4}}),
                    Catch::Contains("generation_config.json") && Catch::Contains("num_beams"));
  fs::remove_all(folder);
}

TEST_CASE("the forward pass resumes at any block", "[model]") {
  for (const at::Device device : devices()) {
    const Golden g = golden("untied-llama3");
    const Model model = Model::load(data / "untied-llama3", device);
    at::NoGradGuard no_grad;
    const Batch batch = pack(std::span<const Example>(g.examples), device);
    const at::Tensor whole = model.hidden(batch);
    for (int64_t cut = 0; cut <= model.layers(); ++cut) {
      const at::Tensor lower = model.hidden(batch, {.last = cut});
      CHECK(at::equal(model.hidden(batch, {.first = cut, .start = lower}), whole));
    }
    for (int64_t cut = 1; cut <= model.layers(); ++cut) {
      const at::Tensor some = model.hidden(batch, {.last = cut, .rows = batch.rows});
      const at::Tensor all = model.hidden(batch, {.last = cut}).index_select(0, batch.rows);
      CHECK(distance(some, all) < 1e-5);
    }
    CHECK_THROWS_AS(model.hidden(batch, {.first = 2, .last = 1}), Error);
    std::vector<int64_t> keys;
    const at::Tensor nothing = model.hidden(
        batch, {.last = 2, .stop_at_key = true, .on_key = [&](int64_t l, const at::Tensor& k) {
                  keys.push_back(l);
                  CHECK(k.size(1) == model.config().intermediate_size);
                }});
    CHECK(!nothing.defined());
    CHECK(keys == std::vector<int64_t>{0, 1});
  }
}

TEST_CASE("a cached prefix changes neither values nor gradients", "[model]") {
  for (const at::Device device : devices()) {
    const Golden g = golden("tied");
    Model model = Model::load(data / "tied", device);
    const int64_t first = 1;
    std::vector<std::vector<int64_t>> full, head, tail;
    for (const Example& e : g.examples) {
      full.push_back(e.prompt);
      full.back().insert(full.back().end(), e.answer.begin(), e.answer.end());
      const auto cut = static_cast<std::ptrdiff_t>(full.back().size() / 2);
      head.emplace_back(full.back().begin(), full.back().begin() + cut);
      tail.emplace_back(full.back().begin() + cut, full.back().end());
    }
    const Batch whole = pack_sequences(full, device);
    const at::Tensor below = [&] {
      at::NoGradGuard no_grad;
      return model.hidden(whole, {.last = first});
    }();
    std::vector<int64_t> head_rows, tail_rows, positions;
    for (size_t b = 0; b < full.size(); ++b) {
      for (int64_t t = 0; t < whole.lengths[b]; ++t) {
        const bool early = t < static_cast<int64_t>(head[b].size());
        (early ? head_rows : tail_rows).push_back(whole.starts[b] + t);
        if (!early) positions.push_back(t);
      }
    }
    const auto index = [&](const std::vector<int64_t>& v) {
      return at::tensor(at::IntArrayRef(v), at::kLong).to(device);
    };
    KvCache cache = model.empty_cache(std::ssize(full), 32);
    {
      at::NoGradGuard no_grad;
      model.hidden(pack_sequences(head, device), {.first = first,
                                                  .start = below.index_select(0, index(head_rows)),
                                                  .cache = &cache,
                                                  .append = true});
      for (size_t b = 0; b < head.size(); ++b)
        cache.lengths[b] = static_cast<int64_t>(head[b].size());
    }
    Batch rest = pack_sequences(tail, device);
    rest.positions = index(positions);

    at::Tensor start = below.index_select(0, index(tail_rows)).requires_grad_(true);
    const at::Tensor cached = model.hidden(rest, {.first = first, .start = start, .cache = &cache});
    at::Tensor all = below.clone().requires_grad_(true);
    const at::Tensor direct =
        model.hidden(whole, {.first = first, .start = all}).index_select(0, index(tail_rows));
    CHECK(distance(cached, direct) < 1e-5);
    cached.square().sum().backward();
    direct.square().sum().backward();
    CHECK(distance(start.grad(), all.grad().index_select(0, index(tail_rows))) < 1e-3);
  }
}

TEST_CASE("sequences do not see each other, whatever the batch", "[model]") {
  const Golden g = golden("tied");
  const Model model = Model::load(data / "tied");
  at::NoGradGuard no_grad;
  const at::Tensor together = model.sequence_logprob(pack(std::span<const Example>(g.examples)));
  for (size_t i = 0; i < g.examples.size(); ++i) {
    const at::Tensor alone = model.sequence_logprob(pack(std::span(g.examples).subspan(i, 1)));
    CHECK(alone.item<double>() ==
          Approx(together[static_cast<int64_t>(i)].item<double>()).epsilon(1e-5));
  }
  // Prompt tokens are not scored: the sum over an answer of n tokens has n terms.
  const Batch batch = pack(std::span<const Example>(g.examples));
  CHECK(batch.scored() == 5 + 4 + 2 + 4 + 11);
  CHECK_THROWS_WITH(pack(std::vector<Example>{{.prompt = {}, .answer = {1}}}),
                    Catch::Contains("empty prompt"));
}

TEST_CASE("fused kernels equal their formulas, with gradients by finite difference", "[model]") {
  at::manual_seed(1);
  const at::Tensor x = at::randn({5, 12}, at::kDouble), w = at::randn({12}, at::kDouble),
                   u = at::randn({5, 12}, at::kDouble), angle = at::randn({5, 3}, at::kDouble);
  const at::Tensor cos = angle.cos().to(at::kFloat), sin = angle.sin().to(at::kFloat);
  using Op = std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>;
  const std::vector<std::pair<Op, at::Tensor>> ops = {
      {[](const at::Tensor& a, const at::Tensor& b) {
         return rms_norm(a, b, 1e-5, a.scalar_type());
       },
       w},
      {[&](const at::Tensor& a, const at::Tensor&) { return rotary(a, cos, sin, 2); }, u},
      {[](const at::Tensor& a, const at::Tensor& b) { return swiglu(a, b); }, u}};
  const at::Tensor probe = at::randn({5, 12}, at::kDouble);
  for (const auto& [op, second] : ops) {
    at::Tensor a = x.to(at::kFloat).requires_grad_(true),
               b = second.to(at::kFloat).requires_grad_(true);
    const at::Tensor y = op(a, b);
    CHECK(distance(y, op(x, second)) < 1e-5);  // float kernel against the fp64 formula
    (y * probe.to(at::kFloat)).sum().backward();
    const auto value = [&](const at::Tensor& p, const at::Tensor& q) {
      return (op(p, q) * probe).sum().item<double>();
    };
    const double h = 1e-5;
    for (int64_t i = 0; i < 12; ++i) {
      at::Tensor step = at::zeros_like(x);
      step[3][i] = h;
      const double slope = (value(x + step, second) - value(x - step, second)) / (2 * h);
      CHECK(a.grad()[3][i].item<double>() == Approx(slope).margin(1e-4));
      if (b.grad().defined()) {
        at::Tensor other = at::zeros_like(second);
        (other.dim() == 1 ? other[i] : other[3][i]).fill_(h);
        const double across = (value(x, second + other) - value(x, second - other)) / (2 * h);
        const at::Tensor got = b.grad().dim() == 1 ? b.grad()[i] : b.grad()[3][i];
        CHECK(got.item<double>() == Approx(across).margin(1e-4));
      }
    }
  }
}

TEST_CASE("bf16 compute stays near fp32 and masters stay fp32", "[model]") {
  for (const at::Device device : devices()) {
    const Golden g = golden("tied");
    Model model = Model::load(data / "tied", device);
    const Batch batch = pack(std::span<const Example>(g.examples), device);
    model.require_grad(true);
    const double exact = model.token_nll(batch).item<double>();
    model.set_compute(at::kBFloat16);
    const at::Tensor loss = model.token_nll(batch);
    CHECK(loss.item<double>() == Approx(exact).epsilon(2e-2));
    CHECK(loss.item<double>() != exact);
    loss.backward();
    for (const auto& [name, parameter] : model.parameters()) {
      CHECK(parameter.scalar_type() == at::kFloat);
      REQUIRE(parameter.grad().scalar_type() == at::kFloat);
      const at::Tensor want = g.tensors.tensor("grad." + name);
      CHECK(distance(parameter.grad(), want) < 0.05 * (1 + want.abs().max().item<double>()));
    }
    {  // the low-precision copies follow the masters
      at::NoGradGuard no_grad;
      model.parameter("model.layers.0.mlp.up_proj.weight").mul_(1.5);
    }
    at::NoGradGuard no_grad;
    const double changed = model.token_nll(batch).item<double>();
    Model fresh = model.clone();
    CHECK(fresh.token_nll(batch).item<double>() == changed);
    CHECK(changed != Approx(exact).epsilon(1e-4));
  }
}

TEST_CASE("FLOPs equal a hand count", "[model]") {
  Model model = Model::random(tiny(), 3);
  const std::vector<Example> examples = {{.prompt = {1, 2, 3}, .answer = {4, 5}}};
  model.require_grad(true);
  model.reset_flops();
  model.token_nll(pack(std::span<const Example>(examples)));
  const double n = 4, m = 2;  // 4 input tokens, 2 scored
  const double mixing =
      2 * n * (24 * 24 + 2 * 24 * 12) + 4 * 24 * (4 * 5 / 2.0);  // q, k, v, attention
  const double rest = 2 * (24 * 24 + 3 * 24 * 40);               // o, MLP: a row
  const double head = 2 * m * 24 * 53;
  // The last block's rest runs on the scored rows only.
  CHECK(model.flops().forward == 3 * mixing + (2 * n + m) * rest + head);
  CHECK(model.flops().backward == 2 * (3 * mixing + (2 * n + m) * rest + head));
}

TEST_CASE("parameters: number, names, seeds, copies", "[model]") {
  const Model model = Model::random(tiny(), 3);
  int64_t total = 0;
  for (const auto& [name, tensor] : model.parameters()) total += tensor.numel();
  CHECK(total == tiny().parameters());
  CHECK(model.content_hash() == Model::random(tiny(), 3).content_hash());
  CHECK(model.content_hash() != Model::random(tiny(), 4).content_hash());
  CHECK(model.content_hash() == model.clone().content_hash());
  CHECK_THROWS_WITH(model.parameter("model.layers.0.mlp.down_prj.weight"),
                    Catch::Contains("'model.layers.0.mlp.down_proj.weight'"));
  const std::vector<Example> far = {{.prompt = std::vector<int64_t>(70, 1), .answer = {1}}};
  CHECK_THROWS_WITH(model.token_nll(pack(std::span<const Example>(far))),
                    Catch::Contains("context is 64"));
}

TEST_CASE("a saved checkpoint keeps the bytes of what did not change", "[model]") {
  const fs::path out = fs::temp_directory_path() / fmt::format("resurface-save-{}", getpid());
  Model model = Model::load(data / "tied");
  {
    at::NoGradGuard no_grad;
    model.parameter("model.layers.1.mlp.down_proj.weight").add_(1);
  }
  model.save(out, data / "tied");
  const SafetensorsFile before(data / "tied" / "model.safetensors"),
      after(out / "model.safetensors");
  for (const TensorInfo& info : before.tensors()) {
    INFO(info.name);
    CHECK((before.bytes(info.name) == after.bytes(info.name)) ==
          (info.name != "model.layers.1.mlp.down_proj.weight"));
  }
  CHECK(Model::load(out).content_hash() == model.content_hash());
  fs::remove_all(out);
}

TEST_CASE("config.json: what is not implemented is refused by name", "[model]") {
  std::ifstream in(data / "tied" / "config.json");
  const nlohmann::json good = nlohmann::json::parse(in);
  CHECK(write_model_config(read_model_config(good, "c"))["hidden_size"] == 32);
  const auto refuse = [&](const char* key, nlohmann::json value, const char* says) {
    nlohmann::json bad = good;
    bad[key] = std::move(value);
    CHECK_THROWS_WITH(read_model_config(bad, "c.json"),
                      Catch::Contains("c.json") && Catch::Contains(says));
  };
  refuse("architectures", {"MambaForCausalLM"}, "MambaForCausalLM");
  refuse("hidden_act", "relu", "relu");
  refuse("hidden_size", "big", "hidden_size");
  refuse("num_key_value_heads", 3, "multiple");
  refuse("rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}, "dynamic");
  refuse("vocab_size", nullptr, "vocab_size");
}

}  // namespace
}  // namespace resurface
