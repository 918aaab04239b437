// The stages of a layered unlearning (LayeredSettings), or the one of a plain one.
#pragma once

#include "core/run/resources.h"
#include "study/alternatives.h"
#include "study/config.h"

namespace resurface {

/// What a stage trains on.
struct Layer {
  AnsweredTwice forget;
  std::vector<Example> retain;
};

/// Stage i has folds 1 .. i of `answered` to forget and `retain` with the lines of the other folds
/// behind it to retain. Lines are dealt to folds by their items, all languages together. Throws
/// Error for fewer items than folds.
std::vector<Layer> forget_in_layers(const LayeredSettings& settings, const AnsweredTwice& answered,
                                    std::span<const Example> retain, const StudyInputs& inputs,
                                    const std::vector<std::string>& languages, uint64_t seed);

/// Throws ConfigError for a removal whose method, model or data cannot do what its settings ask;
/// before anything is computed.
void check_unlearning(const Removal& removal, const StudyInputs& inputs);

/// Where the weights after a stage are kept until the removal is done, with what they cost.
void keep_layer(const std::filesystem::path& file, const Model& model, const Cost& cost);
/// Puts them back and gives their cost.
Cost restore_layer(const std::filesystem::path& file, Model& model);

}  // namespace resurface
