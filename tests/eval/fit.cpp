#include "eval/fit.h"

#include <catch2/catch.hpp>

#include "tests/devices.h"
#include "tests/eval/tiny.h"

using namespace resurface;
using namespace resurface::test;

TEST_CASE("Perplexity and KL of ordinary text are the definitions") {
  for (const auto device : devices()) {
    const auto model = Model::random(tiny_config(), 1, device);
    const auto other = Model::random(tiny_config(), 2, device);
    std::vector<Example> texts;
    for (const int64_t seed : {1, 2, 3}) texts.push_back(random_example(seed, 3 + seed, 5));
    double nll = 0, kl = 0;
    int64_t positions = 0;
    for (const auto& text : texts) {
      std::vector<std::vector<int64_t>> ids = {text.prompt};
      ids[0].insert(ids[0].end(), text.answer.begin(), text.answer.end());
      const at::NoGradGuard no_grad;
      const auto batch = pack_sequences(ids, device);
      const auto p = model.logits(model.hidden(batch)).cpu().to(at::kDouble).softmax(1);
      const auto q = other.logits(other.hidden(batch)).cpu().to(at::kDouble).softmax(1);
      for (int64_t t = 0; t + 1 < std::ssize(ids[0]); ++t, ++positions) {
        nll -= std::log(p[t][ids[0][static_cast<size_t>(t + 1)]].item<double>());
        kl += (q[t] * (q[t] / p[t]).log()).sum().item<double>();
      }
    }
    for (const int64_t batch_tokens : {8, 1024}) {
      const auto fit = text_fit(model, texts, &other, batch_tokens);
      CHECK(fit.tokens == positions);
      CHECK(fit.nll == Approx(nll / static_cast<double>(positions)).epsilon(1e-5));
      CHECK(fit.perplexity() == Approx(std::exp(fit.nll)));
      CHECK(fit.kl == Approx(kl / static_cast<double>(positions)).epsilon(1e-3));
    }
    CHECK(text_fit(model, texts, &model).kl == Approx(0).margin(1e-7));
    const auto alone = text_fit(model, texts);
    CHECK(std::isnan(alone.kl));
    const auto again = nlohmann::json::parse(nlohmann::json(alone).dump()).get<TextFit>();
    CHECK(again.nll == alone.nll);
    CHECK(std::isnan(again.kl));
  }
}

TEST_CASE("KL from what the model was needs no second model") {
  for (const auto device : devices()) {
    auto model = Model::random(tiny_config(), 1, device);
    const auto before = model.clone();
    std::vector<Example> texts;
    for (const int64_t seed : {1, 2, 3, 4}) texts.push_back(random_example(seed, 3 + seed, 5));
    const auto reference = fit_reference(model, texts, 16);
    CHECK(reference.hidden.size() > 1);
    CHECK(text_fit(model, texts, reference).kl == Approx(0).margin(1e-9));
    {
      const at::NoGradGuard no_grad;
      model.parameter("model.layers.1.mlp.down_proj.weight").mul_(40);
      model.parameter("model.layers.0.self_attn.o_proj.weight").mul_(40);
    }
    const auto expected = text_fit(model, texts, &before);
    const auto fit = text_fit(model, texts, reference);
    CHECK(expected.kl > 1e-4);
    CHECK(fit.kl == Approx(expected.kl).epsilon(1e-4));
    CHECK(fit.nll == Approx(expected.nll).epsilon(1e-6));
    texts.pop_back();
    CHECK_THROWS_WITH(text_fit(model, texts, reference), Catch::Contains("other texts"));
  }
}
