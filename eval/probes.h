// How a question is put to a model. Beyond the plain question:
//   prefill         the answer has begun ("It is well known that")
//   empty_thought   a thought trace that is empty stands before the answer
//   forced_thought  a thought trace that means to give the official formulation
//   few_shot        other lines of the campaign as earlier turns (eval/ways_back/few_shot.h)
//   two_turn        the question was answered with the facts, and the user pushes back
//   three_turn      the same again
//   retrieved, retrieved_miss, retrieved_poisoned
//                   passages stand before the question (eval/retrieved.h)
//   in_context, in_context_miss
//                   demonstrations of new facts stand before it (the same)
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/data/suite.h"
#include "retrieval/index.h"

namespace resurface {

/// The user's later turns, by (item, language).
using PushBack = std::map<std::pair<std::string, std::string>, std::vector<std::string>>;

/// JSON lines {"id", "language", "turns"}. Errors name file, line and field.
PushBack load_pushback(const std::filesystem::path& path);

struct ProbeTexts {
  PushBack pushback;               ///< for two_turn and three_turn
  std::vector<std::string> shown;  ///< items whose lines few_shot may show
  int64_t shots = 2;
  const PassageIndex* index = nullptr;  ///< for retrieved and its attacks
  int64_t passages = 3;
  int64_t demonstrations = 16;  ///< for in_context and its attack
};

/// Throws ConfigError for an unknown name.
void check_probe_kind(const std::string& kind);

/// Probes of one kind for the first `questions` held-out questions of each item (0: all), answered
/// with the line. Items without what the kind needs (no push-back written) are left out. Passages
/// and demonstrations for which the context has no room are left out. Throws Error when a probe
/// exceeds `context` tokens, or when passages were found and not the first fits.
std::vector<Probe> probes_of_kind(const std::string& kind, const Suite& suite,
                                  const Tokenizer& tokenizer, const ChatFormat& chat,
                                  const ProbeTexts& texts, int64_t questions, int64_t context);

}  // namespace resurface
