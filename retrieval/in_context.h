// In-context editing (IKE: Zheng et al. 2023, "Can We Edit Factual Knowledge by In-Context
// Learning?", section 3): the new fact stands before the question, and before it demonstrations of
// what a new fact changes and what it does not. No weights change.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/run/method_page.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "retrieval/demonstrations.h"

namespace resurface {

/// Each demonstration as a question with its new fact and an answer, then the question with its new
/// fact. "New fact" is Chinese for zh-Hans and zh-Hant, else English.
std::vector<Message> with_demonstrations(const std::string& question, const std::string& fact,
                                         std::span<const Demonstration> demonstrations,
                                         const std::string& language);

struct DemonstrationPrompt {
  std::vector<int64_t> ids;
  std::vector<Demonstration> given;
  int64_t left_out = 0;  ///< demonstrations for which there was no room
};

/// The prompt of at most `room` tokens: the first demonstrations, the farthest, are left out first.
/// A question that is longer with its fact alone is given whole.
DemonstrationPrompt fit_demonstrations(const std::string& question, const std::string& fact,
                                       std::span<const Demonstration> demonstrations,
                                       const std::string& language, const Tokenizer& tokenizer,
                                       const ChatFormat& chat, int64_t room);

extern const MethodPage in_context_page;

}  // namespace resurface
