// What a benchmark asks of a model: teacher-forced scores, probabilities and free continuations of
// texts, side by side.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/run/settings.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

namespace resurface {

/// The models of a run. All must have the tokenizer's vocabulary.
struct FieldInputs {
  const Model& model;
  const Tokenizer& tokenizer;
  const ChatFormat& chat;
  const Model* before = nullptr;     ///< before the edit or the removal
  const Model* oracle = nullptr;     ///< never saw what was removed
  const Model* reference = nullptr;  ///< another model, for the reference attack
};

/// Settings that all benchmarks have.
struct FieldRun {
  std::string name, as;
  int64_t limit = 0;
  std::string prefix;
  std::string end_of_text = "<|endoftext|>";
  int64_t batch_tokens = 2048;
  int64_t batch_prompts = 16;

  template <class V>
  void visit(V& v) {
    v("name", name, "the benchmark");
    v("as", as, "what results call it; the benchmark's name by default");
    v("limit", limit, "first so many records of each file; 0: all", Range::at_least(0));
    v("prefix", prefix,
      "written before every text: the BOS token, where the model was trained with one");
    v("end_of_text", end_of_text, "the token that ends a free continuation");
    v("batch_tokens", batch_tokens, "tokens scored at once", Range::at_least(1));
    v("batch_prompts", batch_prompts, "continuations generated at once", Range::at_least(1));
  }
};

/// Teacher-forced, one entry a scored token, natural logarithms.
struct TokenScores {
  std::vector<double> logprob;
  std::vector<int64_t> argmax;
  /// Mean and standard deviation of log p(v) over v ~ p, the model's distribution; when asked for.
  std::vector<double> mean, deviation;

  double nll() const;  ///< a token
};
std::vector<TokenScores> token_scores(const Model& model, std::span<const Example> examples,
                                      int64_t batch_tokens, bool distribution = false);

/// Continuations of prompts: new ids and their text.
struct Continuation {
  std::vector<int64_t> ids;
  std::string text;
};
struct ContinueOptions {
  int64_t new_tokens = 32;
  std::string stop;   ///< ends a continuation besides end_of_text; empty: none
  int64_t top_k = 1;  ///< 1: greedy; else sampled among so many
  uint64_t seed = 0;
};
/// Throws Error when a prompt and its continuation may exceed the context.
std::vector<Continuation> continuations(const Model& model, const Tokenizer& tokenizer,
                                        const std::vector<std::vector<int64_t>>& prompts,
                                        const FieldRun& run, const ContinueOptions& options);

/// The example of a prompt and its answer, encoded apart. Errors (nothing to score, more tokens
/// than the context) begin with `where`.
Example text_example(const Model& model, const Tokenizer& tokenizer, const std::string& prompt,
                     const std::string& answer, const std::string& where);

/// A prompt and what should, or might, follow it; all plain text, a space between.
struct TargetProbe {
  std::string where;  ///< file and record, for errors
  std::string prompt, target;
  std::string other;  ///< to compare probabilities with; empty: none
};

/// What came of a probe.
///   teacher-forced  argmax_share: of the target's tokens; exact: all of them
///   probability     nll a token; prefers: the target's is below the other's
///   free            generated_match: share of the target's tokens that stand at their place in the
///                   greedy continuation; contains: the target's text occurs in it
struct TargetResult {
  std::string prompt, target;
  std::vector<int64_t> argmax;  ///< [tokens of the target]
  std::vector<int64_t> ids;     ///< the target's
  double argmax_share = 0;
  bool exact = false;
  double nll = 0;
  std::optional<double> nll_other;
  std::optional<bool> prefers;
  std::optional<Continuation> generated;
  std::optional<double> generated_match;
  std::optional<bool> contains;
};
void to_json(nlohmann::ordered_json& json, const TargetResult& result);

/// `new_tokens`: of the free continuation, at least as many as the target has; 0: none.
std::vector<TargetResult> probe_targets(const Model& model, const Tokenizer& tokenizer,
                                        std::span<const TargetProbe> probes, const FieldRun& run,
                                        int64_t new_tokens);

/// Share of places, of `count`, where two lists hold the same token.
double same_share(std::span<const int64_t> a, std::span<const int64_t> b, size_t count);

}  // namespace resurface
