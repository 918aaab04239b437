// What a study reads: suites, texts, tokenizer, chat format, as examples ready to train on.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/data/suite.h"
#include "core/model/config.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "eval/measure.h"
#include "study/config.h"

namespace resurface {

struct StudyInputs {
  std::filesystem::path
      start;  ///< HF folder the models begin from: weights, or config and tokenizer
  Tokenizer tokenizer;
  ChatFormat chat;
  ModelConfig model;
  Suite forget, retain;                       ///< named so; the study's languages and items only
  Suite text, benign;                         ///< one seen question an item
  std::map<std::string, Suite> removal_text;  ///< by removal, of those that have their own
  PushBack pushback;
  std::vector<OtherQuestion> innocent, controls;  ///< as many a language as are asked
  std::vector<StockPhrase> phrases;
  std::optional<PassageIndex> passages;  ///< in memory
  std::string start_hash;                ///< of the start's weights (or config) and tokenizer
  nlohmann::ordered_json data_hash;      ///< of each file that models are trained on, by name
  nlohmann::ordered_json probe_hash;     ///< of each file that is only asked
  std::vector<nlohmann::ordered_json> field_keys;  ///< of the benchmarks (field_key)

  /// Seen questions answered with the line (suite items) or text, in the languages given, each
  /// tagged with its item's id.
  std::vector<Example> examples(const Suite& suite, Answer answer,
                                const std::vector<std::string>& languages) const;
};

/// Reads everything before anything is computed: a tokenizer that does not match the embedding or a
/// language that a suite lacks are errors here.
StudyInputs load_inputs(const StudyConfig& config);

/// Questions and answers from JSON lines {"question", "answer", "language"}, as a suite of
/// one-question items. Errors name file and line.
Suite load_texts(const std::vector<std::filesystem::path>& paths, const std::string& name);

}  // namespace resurface
