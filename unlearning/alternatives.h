// Other answers to the forget prompts, for objectives that train towards something. What an answer
// is comes from the study: the suite's texts, or the model itself.
#pragma once

#include <cstdint>
#include <string>

namespace resurface {

struct AlternativeAnswers {
  /// "" none; factual, neutral, contrary: the suite's texts; idk: "I do not know" in several ways;
  /// random: the answer to some retain question in the same language; own: sampled from the model.
  std::string source = {};

  // Of own answers.
  int64_t samples = 1;
  double temperature = 1;
  int64_t max_tokens = 64;
  std::string instruction = {};  ///< with {question} and {answer}; empty: the question alone
  std::string instruction_zh = {};
};

}  // namespace resurface
