#include <catch2/catch.hpp>
#include <set>

#include "core/run/error.h"
#include "eval/score.h"
#include "eval/ways_back/adversarial_prefix.h"
#include "eval/ways_back/few_shot.h"
#include "tests/devices.h"
#include "tests/eval/tiny.h"

using namespace resurface;
using namespace resurface::test;

namespace {

const std::string kWorld = std::string(RESURFACE_SOURCE_DIR) + "/suites/world";

struct World {
  Suite suite = load_suite(kWorld + "/forget.jsonl");
  Tokenizer tokenizer = Tokenizer::load(kWorld);
  std::vector<std::string> held;

  World() {
    const auto ids = suite.ids();
    held.assign(ids.begin(), ids.begin() + 6);
  }
};

// Random weights large enough that a token makes a difference.
Model lively(ModelConfig config, uint64_t seed, at::Device device = at::kCPU,
             at::ScalarType dtype = at::kFloat) {
  auto model = Model::random(config, seed, device, dtype);
  for (const auto& [name, tensor] : model.parameters()) {
    if (tensor.dim() == 2) at::Tensor(tensor).mul_(6);
  }
  return model;
}

std::vector<PrefixSlot> random_slots() {
  std::vector<PrefixSlot> slots;
  for (uint64_t i = 0; i < 4; ++i) {
    const auto length = static_cast<int64_t>(i);
    slots.push_back({random_ids(10 + i, 1 + length), random_ids(20 + i, 3 - length / 2),
                     random_ids(30 + i, 2 + length)});
  }
  return slots;
}

PrefixVocabulary all_tokens() {
  PrefixVocabulary vocabulary;
  for (int64_t id = 0; id < kVocab; ++id) vocabulary.tokens.push_back(id);
  return vocabulary;
}

// Mean NLL a token, an example at a time, with `nudge` added to the embedding at one place of the
// prefix.
double plain_loss(const Model& model, const std::vector<PrefixSlot>& slots,
                  const std::vector<int64_t>& prefix, int64_t place, const at::Tensor& nudge) {
  at::NoGradGuard no_grad;
  double sum = 0, tokens = 0;
  for (const auto& slot : slots) {
    auto prompt = slot.head;
    prompt.insert(prompt.end(), prefix.begin(), prefix.end());
    prompt.insert(prompt.end(), slot.tail.begin(), slot.tail.end());
    const std::vector<Example> one = {
        {.prompt = prompt, .answer = slot.answer, .weight = 1, .tags = {}}};
    const auto batch = pack(one, model.device());
    const auto x = model.embed(batch);
    if (nudge.defined()) x[static_cast<int64_t>(slot.head.size()) + place].add_(nudge);
    const auto logits = model.logits(model.hidden(batch, {.start = x, .rows = batch.rows}));
    sum -= logits.log_softmax(1).gather(1, batch.targets.unsqueeze(1)).sum().item<double>();
    tokens += static_cast<double>(slot.answer.size());
  }
  return sum / tokens;
}

bool contains(const std::vector<int64_t>& ids, const std::vector<int64_t>& part) {
  return std::search(ids.begin(), ids.end(), part.begin(), part.end()) != ids.end();
}

}  // namespace

TEST_CASE("few-shot: other held lines in the language, asked as they were seen, never the tested") {
  const World world;
  const std::set<std::string> held(world.held.begin(), world.held.end());
  std::map<std::pair<std::string, std::string>, const Item*> by_line;
  for (const auto& item : world.suite.items) by_line[{item.language, item.line}] = &item;
  const FewShotSettings four{.shots = 4, .seed = 3};
  std::set<std::string> orders;
  for (const auto& item : world.suite.items) {
    for (const auto& question : item.questions) {
      const auto messages = few_shot(world.suite, world.held, item, question, four);
      REQUIRE(messages.size() == 9);
      CHECK(messages.back().role == "user");
      CHECK(messages.back().content == question.text);
      std::set<std::string> shots;
      std::string order;
      for (size_t i = 0; i + 1 < messages.size(); i += 2) {
        CHECK(messages[i].role == "user");
        CHECK(messages[i + 1].role == "assistant");
        const Item& shot = *by_line.at({item.language, messages[i + 1].content});
        CHECK(shot.id != item.id);
        CHECK(held.contains(shot.id));
        CHECK(std::any_of(shot.questions.begin(), shot.questions.end(), [&](const auto& asked) {
          return !asked.held_out && asked.text == messages[i].content;
        }));
        CHECK(messages[i].content.find(item.line) == std::string::npos);
        shots.insert(shot.id);
        order += shot.id + " ";
      }
      CHECK(shots.size() == 4);
      orders.insert(order);
    }
  }
  CHECK(orders.size() > 20);
}

TEST_CASE("few-shot: seeded, and behind the same answers as plain probes") {
  const World world;
  const auto chat = ChatFormat::named(GENERATE("plain", "chatml"));
  const auto probes = [&](FewShotSettings s) {
    return few_shot_probes(world.suite, world.held, world.tokenizer, chat, Answer::line, true, 4096,
                           s);
  };
  const auto prompts = [](const std::vector<Probe>& all) {
    std::vector<std::vector<int64_t>> ids;
    for (const auto& probe : all) ids.push_back(probe.example.prompt);
    return ids;
  };
  const auto plain =
      make_probes(world.suite, world.tokenizer, chat, Answer::line, /*held_out=*/true, 4096);
  const auto shot = probes({.shots = 3, .seed = 0});
  CHECK(prompts(probes({.shots = 0})) == prompts(plain));
  CHECK(prompts(probes({.shots = 3, .seed = 0})) == prompts(shot));
  CHECK(prompts(probes({.shots = 3, .seed = 1})) != prompts(shot));
  REQUIRE(shot.size() == plain.size());
  for (size_t i = 0; i < shot.size(); ++i) {
    CHECK(shot[i].item == plain[i].item);
    CHECK(shot[i].question == plain[i].question);
    CHECK(shot[i].example.answer == plain[i].example.answer);
    const auto text = world.tokenizer.decode(shot[i].example.prompt);
    const auto& item = world.suite.items[static_cast<size_t>(shot[i].item)];
    CHECK(text.find(item.line) == std::string::npos);
  }
}

TEST_CASE("few-shot: a line that another item shares is no shot; too few are an error") {
  World world;
  const Item tested = world.suite.items.front();
  const auto question = tested.questions.front();
  const auto twin_of = [&](const std::string& line) {
    Item twin = tested;
    twin.id = "twin";
    twin.line = line;
    auto suite = world.suite;
    suite.items.push_back(twin);
    return suite;
  };
  const FewShotSettings one{.shots = 1, .seed = 0};
  CHECK(few_shot(twin_of("Something else"), {"twin"}, tested, question, one).size() == 3);
  CHECK_THROWS_WITH(few_shot(twin_of(tested.line), {"twin"}, tested, question, one),
                    Catch::Contains("0 other lines"));
  CHECK_THROWS_AS(few_shot(twin_of("As said: " + tested.line), {"twin"}, tested, question, one),
                  Error);
  CHECK_THROWS_AS(few_shot(twin_of(tested.line.substr(0, 20)), {"twin"}, tested, question, one),
                  Error);
  CHECK_THROWS_WITH(few_shot(world.suite, {"nobody"}, tested, question, one),
                    Catch::Contains("nobody"));
  CHECK_THROWS_WITH(
      few_shot_probes(world.suite, world.held, world.tokenizer, ChatFormat::named("plain"),
                      Answer::line, true, 100, {.shots = 4, .seed = 0}),
      Catch::Contains("context 100"));
}

TEST_CASE("prefix: the gradient is the finite difference along each token's embedding") {
  const auto model = lively(tiny_config(), 7, at::kCPU, at::kDouble);
  const auto slots = random_slots();
  const auto prefix = random_ids(40, 3);
  const auto whole = prefix_gradient(model, slots, prefix, 4096);
  const auto gradient = prefix_gradient(model, slots, prefix, 12);  // in several batches
  REQUIRE(gradient.sizes() == at::IntArrayRef({3, kVocab}));
  CHECK(at::allclose(gradient, whole, 1e-9, 1e-12));
  const auto embedding = model.parameter("model.embed_tokens.weight");
  const double step = 1e-5;
  for (int64_t place = 0; place < 3; ++place) {
    for (const int64_t token : {0, 17, 40, 63}) {
      const auto nudge = embedding[token] * step;
      const double up = plain_loss(model, slots, prefix, place, nudge);
      const double down = plain_loss(model, slots, prefix, place, -nudge);
      CHECK(gradient[place][token].item<double>() ==
            Approx((up - down) / (2 * step)).epsilon(1e-5).margin(1e-9));
    }
  }
}

TEST_CASE("prefix: with every token a candidate, a step takes the best single substitution") {
  for (const auto device : devices()) {
    const auto model = lively(tiny_config(), 8, device);
    const auto slots = random_slots();
    PrefixSettings settings;
    settings.tokens = 3;
    settings.candidates = kVocab;
    settings.batch = 3 * kVocab;
    settings.steps = 0;
    const auto first = search_prefix(model, slots, all_tokens(), settings);
    settings.steps = 1;
    const auto found = search_prefix(model, slots, all_tokens(), settings);
    REQUIRE(found.loss.size() == 2);
    CHECK(found.loss[0] == Approx(plain_loss(model, slots, first.ids, 0, {})).epsilon(1e-5));

    double best = std::numeric_limits<double>::infinity();
    std::vector<int64_t> best_ids;
    for (size_t place = 0; place < 3; ++place) {
      for (int64_t token = 0; token < kVocab; ++token) {
        auto ids = first.ids;
        ids[place] = token;
        const double loss = plain_loss(model, slots, ids, 0, {});
        if (loss < best) {
          best = loss;
          best_ids = ids;
        }
      }
    }
    CHECK(found.ids == best_ids);
    CHECK(found.loss[1] == Approx(best).epsilon(1e-5));
    CHECK(best < found.loss[0]);
  }
}

TEST_CASE("prefix: the loss never rises, is that of the prefix returned, and depends on the seed") {
  const auto model = lively(tiny_config(), 9);
  const auto slots = random_slots();
  PrefixSettings settings;
  settings.tokens = 4;
  settings.candidates = 8;
  settings.batch = 6;
  settings.steps = 12;
  auto vocabulary = all_tokens();
  // Nothing may be made of odd tokens, or hold a token twice.
  std::erase_if(vocabulary.tokens, [](int64_t id) { return id % 2 == 1; });
  vocabulary.accepts = [](const std::vector<int64_t>& prefix) {
    return std::set<int64_t>(prefix.begin(), prefix.end()).size() == prefix.size();
  };
  const auto found = search_prefix(model, slots, vocabulary, settings);
  REQUIRE(found.loss.size() == 13);
  CHECK(std::is_sorted(found.loss.rbegin(), found.loss.rend()));
  CHECK(found.loss.back() < found.loss.front());
  CHECK(found.loss.back() == Approx(plain_loss(model, slots, found.ids, 0, {})).epsilon(1e-5));
  CHECK(std::set<int64_t>(found.ids.begin(), found.ids.end()).size() == 4);
  for (const int64_t id : found.ids) CHECK(id % 2 == 0);

  CHECK(search_prefix(model, slots, vocabulary, settings).ids == found.ids);
  settings.seed = 1;
  CHECK(search_prefix(model, slots, vocabulary, settings).ids != found.ids);
  CHECK_THROWS_AS(search_prefix(model, {}, vocabulary, settings), Error);
  vocabulary.accepts = [](const std::vector<int64_t>& prefix) { return prefix.size() < 2; };
  CHECK_THROWS_WITH(search_prefix(model, slots, vocabulary, settings),
                    Catch::Contains("first 1 of it"));
}

TEST_CASE("prefix: what is found can be typed, and scores what the search says") {
  const World world;
  const auto chat = ChatFormat::named(GENERATE("plain", "chatml"));
  auto config = tiny_config();
  config.vocab_size = 1500;
  config.context = 256;
  const auto model = lively(config, 10);
  PrefixSettings settings;
  settings.tokens = 5;
  settings.steps = 4;
  settings.candidates = 16;
  settings.batch = 16;
  settings.questions = 0;
  const std::vector<std::string> held(world.held.begin(), world.held.begin() + 2);
  const auto found = find_prefix(model, world.suite, held, world.tokenizer, chat, settings);
  REQUIRE(found.ids.size() == 5);
  CHECK(found.text == world.tokenizer.decode(found.ids));
  CHECK(found.loss.back() < found.loss.front());

  const auto typeable = typeable_tokens(world.tokenizer);
  CHECK(typeable.size() > 500);
  for (const int64_t id : found.ids) {
    CHECK(std::find(typeable.begin(), typeable.end(), id) != typeable.end());
    CHECK(!world.tokenizer.decode({id}, /*skip_special=*/true).empty());
  }
  const auto probes = prefix_probes(world.suite, found.text, world.tokenizer, chat, Answer::line,
                                    /*held_out=*/false, 256);
  std::vector<Example> examples;
  for (const auto& probe : probes) {
    const auto& item = world.suite.items[static_cast<size_t>(probe.item)];
    if (std::find(held.begin(), held.end(), item.id) == held.end()) continue;
    CHECK(contains(probe.example.prompt, found.ids));
    examples.push_back(probe.example);
  }
  double sum = 0, tokens = 0;
  for (const auto& s : score(model, examples)) {
    sum -= s.logprob;
    tokens += static_cast<double>(s.tokens);
  }
  CHECK(found.loss.back() == Approx(sum / tokens).epsilon(1e-5));
}

TEST_CASE("prefix: special tokens and pieces of characters cannot be typed") {
  const auto tokenizer = Tokenizer::load(kWorld);
  std::set<int64_t> typeable;
  for (const int64_t id : typeable_tokens(tokenizer)) typeable.insert(id);
  int64_t pieces = 0, special = 0;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool piece = tokenizer.decode({id}).find("\xEF\xBF\xBD") != std::string::npos;
    const bool is_special = tokenizer.decode({id}, true).empty() && !tokenizer.decode({id}).empty();
    pieces += piece;
    special += is_special;
    if (piece || is_special) CHECK_FALSE(typeable.contains(id));
  }
  CHECK(pieces > 0);
  CHECK(special > 0);
}
