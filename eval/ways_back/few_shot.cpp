#include "eval/ways_back/few_shot.h"

#include "core/run/error.h"
#include "core/run/seeds.h"
#include "eval/ways_back/prompts.h"
#include "finetune/sampler.h"

namespace resurface {
namespace {

struct Shot {
  const Item* item;
  std::vector<std::string> questions;  // seen, and silent about the tested line
};

std::vector<Shot> shots_for(const Suite& suite, const std::vector<std::string>& held,
                            const Item& tested) {
  const auto tells = [&](const std::string& text) {
    return text.find(tested.line) != std::string::npos;
  };
  std::vector<Shot> shots;
  for (const Item& item : suite.items) {
    if (item.id == tested.id || item.language != tested.language) continue;
    if (std::find(held.begin(), held.end(), item.id) == held.end()) continue;
    if (tells(item.line) || tested.line.find(item.line) != std::string::npos) continue;
    Shot shot{&item, {}};
    for (const Question& question : item.questions) {
      if (!question.held_out && !tells(question.text)) shot.questions.push_back(question.text);
    }
    if (!shot.questions.empty()) shots.push_back(std::move(shot));
  }
  return shots;
}

}  // namespace

std::vector<Message> few_shot(const Suite& suite, const std::vector<std::string>& held,
                              const Item& item, const Question& question,
                              const FewShotSettings& settings) {
  const auto ids = suite.ids();
  for (const std::string& id : held) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      fail("suite '{}' has no item '{}' to take shots from", suite.name, id);
    }
  }
  const auto shots = shots_for(suite, held, item);
  if (settings.shots > static_cast<int64_t>(shots.size())) {
    fail("item '{}' ({}): {} shots are asked for, {} other lines in its language are held", item.id,
         item.language, settings.shots, shots.size());
  }
  const auto seed = derive_seed(static_cast<uint64_t>(settings.seed),
                                fmt::format("{}/{}/{}", item.id, item.language, question.text));
  ShuffledPasses order(static_cast<int64_t>(shots.size()), seed);
  std::vector<Message> messages;
  for (int64_t i = 0; i < settings.shots; ++i) {
    const Shot& shot = shots[static_cast<size_t>(order.next())];
    const auto pick = derive_seed(seed, shot.item->id) % shot.questions.size();
    messages.push_back({"user", shot.questions[pick]});
    messages.push_back({"assistant", shot.item->line});
  }
  messages.push_back({"user", question.text});
  return messages;
}

std::vector<Probe> few_shot_probes(const Suite& suite, const std::vector<std::string>& held,
                                   const Tokenizer& tokenizer, const ChatFormat& chat,
                                   Answer answer, bool held_out, int64_t context,
                                   const FewShotSettings& settings) {
  return make_probes_within(suite, tokenizer, chat, answer, held_out, context,
                            [&](const Item& item, const Question& question) {
                              return few_shot(suite, held, item, question, settings);
                            });
}

}  // namespace resurface
