#include <catch2/catch.hpp>

#include "core/run/error.h"
#include "editing/keys_values.h"
#include "tests/editing/tiny.h"

using namespace resurface;
using namespace resurface::testing;

namespace {

ValueSettings with(bool cached) {
  ValueSettings settings;
  settings.cached = cached;
  return settings;
}

std::vector<EditExample> three_edits() {
  auto edits = std::vector{example("a", 1), example("b", 2, 9), example("c", 3, 1)};
  edits[2].contexts = {{{7}, 0}};  // one token, which is the subject
  edits[2].kl = {{7, 8, 9}, 0};
  return edits;
}

/// log p of every position of one sequence, δ added after block `layer` at the subject.
at::Tensor patched_logprob(const Model& model, int64_t layer, const std::vector<int64_t>& ids,
                           int64_t subject, const at::Tensor& delta) {
  const auto batch = pack_sequences(std::span(&ids, 1));
  auto h = model.hidden(batch, {.last = layer + 1}).clone();
  h[subject] += delta;
  h = model.hidden(batch, {.first = layer + 1, .start = h});
  return at::log_softmax(model.logits(h), 1);
}

/// The loss of one edit as the paper writes it, sequence by sequence.
double direct_loss(const Model& model, int64_t layer, const EditExample& edit,
                   const at::Tensor& delta, const ValueSettings& s) {
  const at::NoGradGuard no_grad;
  double nll = 0;
  at::Tensor initial;
  for (const auto& context : edit.contexts) {
    auto ids = context.ids;
    ids.insert(ids.end(), edit.target.begin(), edit.target.end());
    const auto logp = patched_logprob(model, layer, ids, context.subject, delta);
    double sum = 0;
    for (size_t t = 0; t < edit.target.size(); ++t) {
      sum -= logp[static_cast<int64_t>(context.ids.size() + t) - 1][edit.target[t]].item<double>();
    }
    nll += sum / static_cast<double>(edit.target.size() * edit.contexts.size());
    if (!initial.defined()) {
      HiddenOptions options;
      options.on_key = [&](int64_t at_layer, const at::Tensor& key) {
        if (at_layer != layer) return;
        const auto w = model.parameter(fmt::format("model.layers.{}.mlp.down_proj.weight", layer));
        initial = w.mv(key[context.subject]);
      };
      model.hidden(pack_sequences(std::span(&ids, 1)), options);
    }
  }
  const auto zero = at::zeros_like(delta);
  const auto p =
      patched_logprob(model, layer, edit.kl.ids, edit.kl.subject, delta)[edit.kl.subject];
  const auto q = patched_logprob(model, layer, edit.kl.ids, edit.kl.subject, zero)[edit.kl.subject];
  const double kl = (p.exp() * (p - q)).sum().item<double>();
  const double scale = initial.norm().item<double>();
  return nll + s.kl_factor * kl + s.weight_decay * delta.norm().item<double>() / (scale * scale);
}

at::Tensor some_delta(int64_t edits) {
  at::manual_seed(5);
  return at::randn({edits, 16}, at::kDouble);
}

}  // namespace

TEST_CASE("cached, uncached and directly computed value losses and gradients are equal") {
  const auto model = tiny_model();
  const auto edits = three_edits();
  const auto delta = some_delta(3);
  for (const int64_t layer : {0, 1, 3}) {
    const auto cached = value_loss(model, layer, edits, delta, with(true));
    const auto plain = value_loss(model, layer, edits, delta, with(false));
    CHECK(largest_difference(cached.loss, plain.loss) < 1e-11);
    CHECK(largest_difference(cached.gradient, plain.gradient) < 1e-11);
    CHECK(plain.gradient.abs().max().item<double>() > 1e-3);
    for (int64_t e = 0; e < 3; ++e) {
      CHECK(cached.loss[e].item<double>() ==
            Approx(direct_loss(model, layer, edits[static_cast<size_t>(e)], delta[e], {}))
                .epsilon(1e-10));
    }
  }
}

TEST_CASE("the value loss' gradient agrees with finite differences") {
  const auto model = tiny_model();
  const auto edits = three_edits();
  const auto delta = some_delta(3);
  const auto gradient = value_loss(model, 1, edits, delta, with(true)).gradient;
  const double step = 1e-5;
  for (int64_t i = 0; i < 16; i += 3) {
    auto up = delta.clone(), down = delta.clone();
    up.select(1, i).add_(step);
    down.select(1, i).sub_(step);
    const auto slope = (value_loss(model, 1, edits, up, with(true)).loss -
                        value_loss(model, 1, edits, down, with(true)).loss) /
                       (2 * step);
    CHECK(largest_difference(slope, gradient.select(1, i)) < 1e-7);
  }
}

TEST_CASE("values of the residual stream and of both halves of a block") {
  const auto model = tiny_model();
  const auto edits = three_edits();
  at::manual_seed(6);
  for (const auto site : {ValueSite::hidden, ValueSite::attention_and_mlp}) {
    const int64_t width = site == ValueSite::hidden ? 16 : 32;
    const auto delta = at::randn({3, width}, at::kDouble);
    for (const int64_t layer : {0, 3}) {
      const auto cached = value_loss(model, layer, edits, delta, with(true), site);
      const auto plain = value_loss(model, layer, edits, delta, with(false), site);
      CHECK(largest_difference(cached.loss, plain.loss) < 1e-11);
      CHECK(largest_difference(cached.gradient, plain.gradient) < 1e-11);
      const double step = 1e-5;
      for (int64_t i = 0; i < width; i += 5) {
        auto up = delta.clone(), down = delta.clone();
        up.select(1, i).add_(step);
        down.select(1, i).sub_(step);
        const auto slope = (value_loss(model, layer, edits, up, with(true), site).loss -
                            value_loss(model, layer, edits, down, with(true), site).loss) /
                           (2 * step);
        CHECK(largest_difference(slope, cached.gradient.select(1, i)) < 1e-7);
      }
    }
    // v0 is what is there without δ, and each half has its own bound.
    ValueSettings settings;
    settings.clamp = 0.1;
    settings.early_stop = 0;
    const auto kv = keys_and_values(model, 1, edits, settings, site);
    const auto norms = [&](const at::Tensor& rows) { return rows.view({3, -1, 16}).norm(2, 2); };
    CHECK((norms(kv.delta) <= 0.1 * norms(kv.initial) * (1 + 1e-9)).all().item<bool>());
    const at::NoGradGuard no_grad;
    const auto& prompt = edits[1].contexts[0];
    const auto before = model.hidden(pack_sequences(std::span(&prompt.ids, 1)), {.last = 1});
    const auto after = model.hidden(pack_sequences(std::span(&prompt.ids, 1)), {.last = 2});
    const auto found = site == ValueSite::hidden
                           ? kv.initial[1]
                           : kv.initial[1].view({2, 16}).sum(0) + before[prompt.subject];
    CHECK(largest_difference(found, after[prompt.subject]) < 1e-12);
  }
}

TEST_CASE("the optimised value is the same cached or not, batched or one by one") {
  const auto model = tiny_model();
  const auto edits = three_edits();
  ValueSettings settings;
  // Some edits stop before others.
  const auto start = value_loss(model, 1, edits, at::zeros({3, 16}, at::kDouble), settings).loss;
  settings.early_stop = (start.min() + start.median()).item<double>() / 2;
  const auto batched = keys_and_values(model, 1, edits, settings);
  CHECK(batched.delta.abs().max().item<double>() > 1e-2);
  const auto limit = settings.clamp * batched.initial.norm(2, 1);
  CHECK((batched.delta.norm(2, 1) <= limit * (1 + 1e-9)).all().item<bool>());
  CHECK(batched.steps.min().item<int64_t>() < batched.steps.max().item<int64_t>());

  auto other = settings;
  SECTION("uncached") { other.cached = false; }
  SECTION("one by one") { other.batch_tokens = 1; }
  SECTION("one by one, uncached") {
    other.batch_tokens = 1;
    other.cached = false;
  }
  const auto result = keys_and_values(model, 1, edits, other);
  CHECK(largest_difference(result.delta, batched.delta) < 1e-9);
  CHECK(largest_difference(result.key, batched.key) < 1e-12);
  CHECK(largest_difference(result.initial, batched.initial) < 1e-12);
  CHECK(largest_difference(result.nll, batched.nll) < 1e-9);
  CHECK(at::equal(result.steps, batched.steps));
}

TEST_CASE("optimising lowers the target's loss, and Adam starts as Adam does") {
  const auto model = tiny_model();
  const auto edits = three_edits();
  ValueSettings settings;
  settings.clamp = 1e6;
  settings.steps = 2;  // one step
  const auto zero = at::zeros({3, 16}, at::kDouble);
  const auto start = value_loss(model, 1, edits, zero, settings);
  const auto one = keys_and_values(model, 1, edits, settings);
  // Adam's first step is the learning rate against each sign.
  CHECK(largest_difference(one.delta, -0.5 * start.gradient / (start.gradient.abs() + 1e-8)) <
        1e-9);
  settings.steps = 25;
  settings.learning_rate = 0.05;
  settings.weight_decay = 0;  // |v0| is tiny in an untrained model, and decay is over its square
  const auto all = keys_and_values(model, 1, edits, settings);
  CHECK((all.loss < start.loss).all().item<bool>());
}

TEST_CASE("keys are those of the subject, averaged over the contexts") {
  const auto model = tiny_model();
  const auto edits = three_edits();
  ValueSettings settings;
  settings.steps = 1;
  const auto kv = keys_and_values(model, 2, edits, settings);
  const at::NoGradGuard no_grad;
  for (int64_t e = 0; e < 3; ++e) {
    const auto& edit = edits[static_cast<size_t>(e)];
    std::vector<at::Tensor> keys;
    for (const auto& context : edit.contexts) {
      HiddenOptions options;
      options.on_key = [&](int64_t layer, const at::Tensor& key) {
        if (layer == 2) keys.push_back(key[context.subject].clone());
      };
      model.hidden(pack_sequences(std::span(&context.ids, 1)), options);
    }
    CHECK(largest_difference(kv.bare_key[e], keys.at(0)) < 1e-12);
    CHECK(largest_difference(kv.key[e], at::stack(keys).mean(0)) < 1e-12);
  }
}

TEST_CASE("the subject's last token is found through byte offsets") {
  const ScratchFolder folder;
  const auto tokenizer = byte_tokenizer(folder.path);
  const auto at = [&](const std::string& prompt, const std::string& subject) {
    return locate_subject(tokenizer, prompt, subject, "r1").subject;
  };
  CHECK(at("Toky is a", "Toky") == 0);        // first, one token
  CHECK(at("in Toky", "Toky") == 3);          // last
  CHECK(at("Toky", "Tok") == 0);              // ends inside a token
  CHECK(at("Toky or Toky is", "Toky") == 5);  // the last occurrence
  CHECK(at("台湾是", "台湾") == 5);           // three tokens a character, no spaces
  CHECK(at("问：台湾是什么", "台湾") == 11);
  CHECK_THROWS_WITH(at("Paris is", "Toky"), Catch::Contains("r1") && Catch::Contains("Toky"));
  CHECK_THROWS_AS(at("Paris is", ""), Error);
}

TEST_CASE("a request becomes ids: contexts, target, KL prompt of its language") {
  const ScratchFolder folder;
  const auto tokenizer = byte_tokenizer(folder.path);
  EditRequest request{.id = "x", .prompt = "台湾是", .subject = "台湾", .target = "岛"};
  request.contexts = {"问：台湾是"};
  request.language = "zh-Hans";
  const auto example = tokenize_request(tokenizer, request, {});
  CHECK(example.contexts.size() == 2);
  CHECK(example.contexts[1].subject == 11);
  CHECK(example.target == tokenizer.encode("岛"));
  CHECK(example.kl.ids == tokenizer.encode("台湾是一个"));
  CHECK(example.kl.subject == 5);

  request.target = "";
  CHECK_THROWS_WITH(tokenize_request(tokenizer, request, {}), Catch::Contains("target"));
}

TEST_CASE("generated contexts stand before the question and are reproducible") {
  const ScratchFolder folder;
  const auto tokenizer = byte_tokenizer(folder.path);
  const auto model = tiny_model(at::kFloat);
  EditRequest request{.id = "x", .prompt = "Q: Toky is", .subject = "Toky", .target = "a"};
  request.question = "Toky is";
  const auto once = with_generated_contexts(model, tokenizer, std::span(&request, 1), {});
  const auto again = with_generated_contexts(model, tokenizer, std::span(&request, 1), {});
  REQUIRE(once.at(0).contexts.size() == 5);
  CHECK(once[0].contexts == again[0].contexts);
  for (const auto& context : once[0].contexts) {
    CHECK(context.starts_with("Q: "));
    CHECK(context.ends_with("Toky is"));
    CHECK(context.size() > request.prompt.size());
  }
  request.contexts = {"own Toky"};
  CHECK(with_generated_contexts(model, tokenizer, std::span(&request, 1), {})[0].contexts ==
        request.contexts);
}
