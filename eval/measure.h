// What a model knows and says, per (item, language, phrasing). Metrics: eval/metrics/.
#pragma once

#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/data/suite.h"
#include "core/run/settings.h"
#include "eval/score.h"

namespace resurface {

struct MeasureSettings {
  bool seen = true;
  bool held_out = true;
  bool margins = true;
  int64_t generate_questions = 0;
  int64_t generate_tokens = 128;
  int64_t batch_tokens = 2048;
  int64_t batch_prompts = 16;

  template <class V>
  void visit(V& v) {
    v("seen", seen, "ask the questions that were trained on");
    v("held_out", held_out, "ask the questions that were never trained on");
    v("margins", margins, "score the neutral and the contrary continuation too");
    v("generate_questions", generate_questions,
      "held-out questions an item and language that are answered freely, for the longest substring "
      "shared with the line; 0: none",
      Range::at_least(0));
    v("generate_tokens", generate_tokens, "longest reply", Range::at_least(1));
    v("batch_tokens", batch_tokens, "tokens scored at once", Range::at_least(1));
    v("batch_prompts", batch_prompts, "replies generated at once", Range::at_least(1));
  }
};

/// Everything that is asked of a model, made once for a (suite, tokenizer) and used for any number
/// of measurements.
struct MeasureProbes {
  const Suite* suite = nullptr;  ///< must outlive the probes
  Tokenizer tokenizer;           ///< decodes the replies
  MeasureSettings settings;
  std::string answer_end;
  std::vector<int64_t> stop_ids;  ///< of the end of an answer, when that is one token

  std::vector<Probe> line;             ///< [P]
  std::vector<Example> line_examples;  ///< [P], of `line`
  std::vector<Example> neutral;        ///< [P], or empty without margins
  std::vector<Example> contrary;       ///< [P], or empty without margins
};

/// Throws Error when a probe exceeds `context` tokens.
MeasureProbes make_measure_probes(const Suite& suite, const Tokenizer& tokenizer,
                                  const ChatFormat& chat, const MeasureSettings& settings,
                                  int64_t context);

/// One row. As JSON: {"item", "topic", "set", "language", "phrasing": "seen|held_out", "question",
/// "intensity", "logprob", "tokens", "logprob_per_token", "margin_neutral", "margin_contrary",
/// "margin_neutral_sum", "margin_contrary_sum", "exact_memorization", "extraction_strength",
/// "greedy_match", "lcs"?, "prompt"?, "line"?, "generated"?}. `set` is the suite's name. The answer
/// is the line and the chat format's end of answer. Log-probs and margins in nats; margins are null
/// when not asked for or when the suite has no such continuation.
struct Measurement {
  std::string item, topic, set, language, phrasing, intensity;
  int64_t question = 0;  ///< index into the item's questions
  Score score;
  double margin_neutral = std::numeric_limits<double>::quiet_NaN();      ///< a token
  double margin_contrary = std::numeric_limits<double>::quiet_NaN();     ///< a token
  double margin_neutral_sum = std::numeric_limits<double>::quiet_NaN();  ///< of whole answers
  double margin_contrary_sum = std::numeric_limits<double>::quiet_NaN();
  std::optional<double> lcs;  ///< share of the line's characters said in one piece
  std::optional<std::string> prompt, line, generated;  ///< question as asked, the line, the reply
};
void to_json(nlohmann::json& json, const Measurement& row);
void from_json(const nlohmann::json& json, Measurement& row);

/// One row a probe, in the order of `probes.line`.
std::vector<Measurement> measure(const Model& model, const MeasureProbes& probes);

}  // namespace resurface
