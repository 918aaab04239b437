// Other answers to the questions about the lines, for objectives that train towards them.
#pragma once

#include "study/inputs.h"
#include "unlearning/alternatives.h"

namespace resurface {

/// Forget examples, each with another answer to the same prompt beside it; `alternative` is empty
/// where none is wanted.
struct AnsweredTwice {
  std::vector<Example> forget, alternative;
};

/// Own answers are sampled from the model as it is, `samples` a question, so that each forget
/// example comes as often; one that says more than half of the line in one piece is drawn again up
/// to four times and then left out. The same seed gives the same answers. Throws Error where a
/// language has no phrase or retain answer to choose from, or the model says nothing but the lines.
AnsweredTwice answer_twice(const Model& model, const AlternativeAnswers& wanted,
                           const StudyInputs& inputs, const std::vector<std::string>& languages,
                           uint64_t seed);

}  // namespace resurface
