// resurface cost: from a study's FLOPs to a large model's bill.
#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "study/extrapolate.h"

using namespace resurface;
using Json = nlohmann::ordered_json;

namespace {

Removal removal(const std::string& name, const std::string& method, const std::string& reach) {
  Removal r;
  r.name = r.label = name;
  r.method = method;
  r.train.reach = reach;
  return r;
}

Json record(const std::string& model, const std::string& reach, double recovered) {
  return {
      {"model", model},
      {"rung", "b"},
      {"reach", reach},
      {"language", "all"},
      {"metric", "extraction_strength"},
      {"recovered", {{"mean", recovered}, {"low", recovered - 0.1}, {"high", recovered + 0.2}}}};
}

Json summary() {
  const Json cost = {
      {"flops", 6e12}, {"tokens", 1000}, {"seconds", 1.0}, {"peak_bytes", 1}, {"examples", 30}};
  Json s = {{"study", "small"}, {"lines", 10}, {"languages", {"en", "zh-Hans"}}};
  for (const char* name : {"npo", "lora", "rome"}) {
    s["models"].push_back({{"name", name}, {"label", name}, {"cost", cost}});
  }
  for (const char* rung : {"a", "b", "d", "b/en"}) s["rungs"].push_back({{"rung", rung}});
  s["recovery"] = {record("npo", "full", 0.1), record("npo", "lora", 0.4),
                   record("lora", "full", 0.25)};
  return s;
}

}  // namespace

TEST_CASE("wholesale retraining costs what DeepSeek-V3's report says it did") {
  StudyConfig config;
  ExtrapolationSettings settings;
  // 2.788M H800 hours at $2 an hour, $5.576M: table 1 of the report. Its 6 N D on them is a third
  // of the peak.
  settings.price = {.dollars_per_hour = 2, .peak_flops = 989e12, .efficiency = 0.331};
  const Json cost = extrapolate(summary(), config, 1e6, {parse_large_model("671B-A37B")}, settings);
  const Json& whole = cost["models"][0]["retraining"];
  CHECK(whole["flops"].get<double>() == Approx(3.2856e24));
  CHECK(whole["gpu_hours"].get<double>() == Approx(2.788e6).epsilon(0.01));
  CHECK(whole["dollars"].get<double>() == Approx(5.576e6).epsilon(0.01));
  CHECK(whole["bytes"].get<double>() == Approx(10.7e12).epsilon(0.01));  // full AdamW
  CHECK(whole["gpus"] >= 134);
}

TEST_CASE("a removal's bill grows with the model and the lines") {
  StudyConfig config;
  config.remove = {removal("npo", "npo", "full"), removal("lora", "npo", "lora"),
                   removal("rome", "rome", "full")};
  ExtrapolationSettings settings;
  settings.price = {.dollars_per_hour = 3.6, .peak_flops = 1e15, .efficiency = 0.5};
  settings.gpu_bytes = 1e11;
  settings.lines = 20;
  const LargeModel large = parse_large_model("mine=32B,3B,10T");
  CHECK(large.parameters == 32e9);
  const Json cost = extrapolate(summary(), config, 1e6, {large}, settings);
  const Json& methods = cost["models"][0]["methods"];
  REQUIRE(methods.size() == 3);
  // 6e12 FLOPs x twice the lines x 3e9/1e6 parameters = 3.6e16, 72 s of one such GPU, 7.2 cents.
  const Json& npo = methods[0];
  CHECK(npo["flops"].get<double>() == Approx(3.6e16));
  CHECK(npo["gpu_hours"].get<double>() == Approx(0.02));
  CHECK(npo["dollars"].get<double>() == Approx(0.072));
  CHECK(npo["of_retraining"].get<double>() == Approx(3.6e16 / (6 * 3e9 * 1e13)));
  CHECK(npo["examples"] == 60);
  CHECK(npo["gpus"] == 6);         // 16 x 32e9 bytes
  CHECK(methods[1]["gpus"] == 1);  // 2 x 32e9
  CHECK(methods[2]["gpus"] == 1);
  // The attacker's choice of reach, turned round with its interval.
  CHECK(npo["stays_removed"]["mean"].get<double>() == Approx(0.6));
  CHECK(npo["stays_removed"]["low"].get<double>() == Approx(0.4));
  CHECK(npo["stays_removed"]["high"].get<double>() == Approx(0.7));
  CHECK(methods[2]["stays_removed"].is_null());
  CHECK_THAT(extrapolation_table(cost), Catch::Matchers::Contains("20 lines (10 in the study)"));
}

TEST_CASE("only an embedding that is looked up is not multiplied with") {
  ModelConfig config;
  config.vocab_size = 100;
  config.hidden_size = 8;
  config.intermediate_size = 16;
  config.layers = 1;
  config.heads = config.kv_heads = 2;
  config.head_dim = 4;
  config.tied_head = true;
  const double tied = multiplied_parameters(config);
  config.tied_head = false;
  CHECK(multiplied_parameters(config) == tied);
}

TEST_CASE("a model that is not known is refused with those that are") {
  CHECK_THROWS_WITH(parse_large_model("671B"), Catch::Matchers::Contains("671B-A37B"));
  CHECK_THROWS_WITH(parse_large_model("mine=32B,3B"), Catch::Matchers::Contains("TOKENS"));
  CHECK_THROWS_WITH(parse_large_model("mine=3B,32B,1T"), Catch::Matchers::Contains("among"));
  CHECK_THROWS_WITH(parse_large_model("mine=3Q,1B,1T"), Catch::Matchers::Contains("'3Q'"));
  CHECK_THROWS_AS(parse_large_model("=3B,1B,1T"), ConfigError);
}
