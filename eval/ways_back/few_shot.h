// Few-shot prompting (Brown et al. 2020) as a way back: other lines of the campaign, asked and
// answered, as earlier turns of the chat. No weights change.
#pragma once

#include <string>
#include <vector>

#include "core/data/suite.h"
#include "core/run/settings.h"

namespace resurface {

struct FewShotSettings {
  int64_t shots = 4;
  int64_t seed = 0;

  template <class V>
  void visit(V& v) {
    v("shots", shots, "question and answer pairs before the question", Range::at_least(0));
    v("seed", seed, "of which lines and questions they are");
  }
};

/// The turns before `question`, and the question. The shots are lines of `held` items in the item's
/// language, each after one of its seen questions: never the tested item, nor a text that contains
/// its line or is contained in it. They depend on (seed, item, language, question) alone. Throws
/// Error when there are too few or `held` names no item of the suite.
std::vector<Message> few_shot(const Suite& suite, const std::vector<std::string>& held,
                              const Item& item, const Question& question,
                              const FewShotSettings& settings);

/// Probes of all items, held or not, behind their shots. Throws as few_shot, and when one exceeds
/// `context` tokens.
std::vector<Probe> few_shot_probes(const Suite& suite, const std::vector<std::string>& held,
                                   const Tokenizer& tokenizer, const ChatFormat& chat,
                                   Answer answer, bool held_out, int64_t context,
                                   const FewShotSettings& settings);

}  // namespace resurface
