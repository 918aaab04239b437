// A question with passages before it, as a conversation and as token ids.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "retrieval/index.h"

namespace resurface {

/// The system's turn says to answer from the passages and to name them as [1], [2], and holds them,
/// numbered; the user's turn is the question as it is. Without passages the question stands alone.
/// The instruction is Chinese for zh-Hans and zh-Hant, else English.
std::vector<Message> with_passages(const std::string& question, std::span<const Hit> passages,
                                   const std::string& language);

struct PassagePrompt {
  std::vector<int64_t> ids;
  std::vector<Hit> given;  ///< the passages in it: number n is given[n - 1]
  int64_t left_out = 0;    ///< passages for which there was no room
};

/// The prompt of at most `room` tokens: passages come in their order, one that does not fit is left
/// out, and later ones that do are kept. A question that is longer by itself stands alone.
PassagePrompt fit_passages(const std::string& question, std::span<const Hit> passages,
                           const std::string& language, const Tokenizer& tokenizer,
                           const ChatFormat& chat, int64_t room);

}  // namespace resurface
