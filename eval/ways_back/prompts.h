// Probes whose question is asked within another conversation.
#pragma once

#include <functional>
#include <vector>

#include "core/data/suite.h"

namespace resurface {

/// The conversation that ends with the question.
using Conversation =
    std::function<std::vector<Message>(const Item& item, const Question& question)>;

/// The probes of make_probes with their prompts rendered from `conversation`. Throws Error when one
/// exceeds `context` tokens.
std::vector<Probe> make_probes_within(const Suite& suite, const Tokenizer& tokenizer,
                                      const ChatFormat& chat, Answer answer, bool held_out,
                                      int64_t context, const Conversation& conversation);

}  // namespace resurface
