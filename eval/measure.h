// What a model knows and says, per (item, language, phrasing, probe). Metrics: eval/metrics/;
// detectors: eval/detectors/.
#pragma once

#include <filesystem>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/data/suite.h"
#include "core/run/settings.h"
#include "eval/probes.h"
#include "eval/reply.h"
#include "eval/score.h"

namespace resurface {

struct MeasureSettings {
  bool seen = true;
  bool held_out = true;
  bool margins = true;
  std::vector<std::string> probes;
  int64_t probe_questions = 1;
  int64_t generate_questions = 0;
  int64_t generate_tokens = 128;
  int64_t batch_tokens = 2048;
  int64_t batch_prompts = 16;

  template <class V>
  void visit(V& v) {
    v("seen", seen, "ask the questions that were trained on");
    v("held_out", held_out, "ask the questions that were never trained on");
    v("margins", margins, "score the neutral and the contrary continuation too");
    v("probes", probes,
      "further ways to put the held-out questions: prefill, empty_thought, forced_thought, "
      "few_shot, two_turn, three_turn, with passages before them: retrieved, retrieved_miss, "
      "retrieved_poisoned, and with demonstrations of facts: in_context, in_context_miss");
    v("probe_questions", probe_questions,
      "held-out questions an item and language that are put in each of these ways; 0: all",
      Range::at_least(0));
    v("generate_questions", generate_questions,
      "held-out questions an item and language that are answered freely, plainly and in each of "
      "these ways; 0: none",
      Range::at_least(0));
    v("generate_tokens", generate_tokens, "longest reply", Range::at_least(1));
    v("batch_tokens", batch_tokens, "tokens scored at once", Range::at_least(1));
    v("batch_prompts", batch_prompts, "replies generated at once", Range::at_least(1));
  }
};

/// A question that no line answers: on an innocent topic, or a control.
struct OtherQuestion {
  std::string id, topic, language, text;
};

/// JSON lines {"id", "language", "question", "topic" or "kind", ...}. Errors name file, line and
/// field.
std::vector<OtherQuestion> load_other_questions(const std::filesystem::path& path);

/// Everything that is asked of a model, made once for a (suite, tokenizer) and used for any number
/// of measurements.
struct MeasureProbes {
  /// The same question put in one way.
  struct Way {
    std::string probe;                   ///< plain, prefill, ...
    std::vector<Probe> line;             ///< [P]
    std::vector<Example> line_examples;  ///< [P], of `line`
    std::vector<Example> neutral;        ///< [P], or empty without margins
    std::vector<Example> contrary;       ///< [P], or empty without margins
  };

  const Suite* suite = nullptr;  ///< must outlive the probes
  Tokenizer tokenizer;           ///< decodes the replies
  ChatFormat chat;
  MeasureSettings settings;
  std::vector<int64_t> stop_ids;  ///< of the end of an answer, when that is one token
  std::vector<Way> ways;          ///< plain first
  /// What detectors look for beside the lines themselves; may be empty.
  std::vector<StockPhrase> phrases;
};

/// Throws Error when a probe exceeds `context` tokens.
MeasureProbes make_measure_probes(const Suite& suite, const Tokenizer& tokenizer,
                                  const ChatFormat& chat, const MeasureSettings& settings,
                                  int64_t context, const ProbeTexts& texts = {},
                                  std::vector<StockPhrase> phrases = {});

/// One row. As JSON: {"item", "topic", "set", "probe", "language", "phrasing": "seen|held_out",
/// "question", "intensity", "logprob", "tokens", "logprob_per_token", "margin_neutral",
/// "margin_contrary", "margin_neutral_sum", "margin_contrary_sum", "exact_memorization",
/// "extraction_strength", "greedy_match"}, and with a reply also "prompt", "line" and the fields of
/// eval/reply.h. `set` is the suite's name. The answer is the line and the chat format's end of
/// answer. Log-probs and margins in nats; margins are null when not asked for or when the suite has
/// no such continuation; a row of a question without a line has no score at all.
struct Measurement {
  std::string item, topic, set, probe = "plain", language, phrasing, intensity;
  int64_t question = 0;  ///< index into the item's questions
  Score score;           ///< of no tokens where there is no line
  double margin_neutral = std::numeric_limits<double>::quiet_NaN();      ///< a token
  double margin_contrary = std::numeric_limits<double>::quiet_NaN();     ///< a token
  double margin_neutral_sum = std::numeric_limits<double>::quiet_NaN();  ///< of whole answers
  double margin_contrary_sum = std::numeric_limits<double>::quiet_NaN();
  std::string prompt, line;  ///< question as asked and the line; where there is a reply
  std::optional<Reply> reply;
};
void to_json(nlohmann::json& json, const Measurement& row);
void from_json(const nlohmann::json& json, Measurement& row);

/// One row a probe, in the order of `probes.ways`.
std::vector<Measurement> measure(const Model& model, const MeasureProbes& probes);

/// Replies to questions without a line, rows of the set `set`: what must not be said there are the
/// lines of `probes.suite` and all its stock phrases.
std::vector<Measurement> measure_others(const Model& model, const MeasureProbes& probes,
                                        const std::vector<OtherQuestion>& questions,
                                        const std::string& set);

}  // namespace resurface
