// Question -> passages -> prompt -> answer with its sources: the remedy that changes no weights and
// is paid for with every question.
#pragma once

#include <string>
#include <vector>

#include "core/model/generate.h"
#include "core/model/model.h"
#include "core/run/method_page.h"
#include "retrieval/in_context.h"
#include "retrieval/prompt.h"

namespace resurface {

struct AskSettings {
  int64_t passages = 3;      ///< or demonstrations
  std::string language;      ///< of passages and instruction; empty: any, and the question's
  GenerateOptions generate;  ///< stop_ids: the checkpoint's end tokens
};

struct Source {
  Hit hit;
  bool cited = false;  ///< the answer names its number
};

struct SourcedAnswer {
  std::string text;
  std::vector<Source> sources;  ///< the passages in the prompt, as numbered there
  int64_t left_out = 0;         ///< of those found, how many the context had no room for
  int64_t prompt_tokens = 0, tokens = 0;
  double flops = 0, seconds = 0;  ///< of this question: search, prompt and answer
};

/// Without an index the question is asked plainly. Throws Error when the question has no words or
/// leaves no room for an answer.
SourcedAnswer ask(const Model& model, const Tokenizer& tokenizer, const ChatFormat& chat,
                  const PassageIndex* index, const std::string& question,
                  const AskSettings& settings);

/// With demonstrations before it instead (retrieval/in_context.h); the sources are the new
/// fact, which is the nearest, and the demonstrations' facts from the nearest on, none of them
/// cited.
SourcedAnswer ask_in_context(const Model& model, const Tokenizer& tokenizer, const ChatFormat& chat,
                             const Demonstrations& facts, const std::string& question,
                             const AskSettings& settings);

extern const MethodPage retrieval_page;

}  // namespace resurface
