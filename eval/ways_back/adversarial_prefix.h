// One adversarial prefix for all questions: n tokens before the question under which the attacker's
// lines are likeliest, found by greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043,
// algorithm 2 with all held lines at once). Found on the held lines, then put before questions
// whose lines the search never saw.
//
// Where we differ: a prefix, not a suffix; a step whose best candidate is no better keeps the old
// prefix, so that the loss never rises; candidates are drawn without replacement; and a prefix is a
// candidate only when its text, in its place in every held prompt, is encoded to the same ids, so
// that what was found can be typed.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/data/suite.h"
#include "core/model/model.h"
#include "core/run/settings.h"

namespace resurface {

struct PrefixSettings {
  int64_t tokens = 16;
  int64_t steps = 50;
  int64_t candidates = 64;
  int64_t batch = 64;
  int64_t questions = 1;
  int64_t seed = 0;
  int64_t batch_tokens = 2048;

  template <class V>
  void visit(V& v) {
    v("tokens", tokens, "length of the prefix", Range::at_least(1));
    v("steps", steps, "times that one token is exchanged (the paper: 500)", Range::at_least(0));
    v("candidates", candidates, "tokens of best gradient kept a position (256)",
      Range::at_least(1));
    v("batch", batch, "substitutions evaluated a step, drawn from those (512)", Range::at_least(1));
    v("questions", questions, "seen questions a held item and language that it is found on; 0: all",
      Range::at_least(0));
    v("seed", seed, "of the first prefix and of the draws");
    v("batch_tokens", batch_tokens, "tokens run at once", Range::at_least(1));
  }
};

/// A held example with a place for the prefix: its prompt is head, prefix, tail.
struct PrefixSlot {
  std::vector<int64_t> head, tail, answer;
};

/// What a prefix may be made of.
struct PrefixVocabulary {
  std::vector<int64_t> tokens;
  std::function<bool(const std::vector<int64_t>& prefix)> accepts;  ///< empty: every prefix
};

struct AdversarialPrefix {
  std::vector<int64_t> ids;
  std::string text;
  std::vector<double> loss;  ///< [steps + 1] after each step; [0]: of the random first prefix
};

/// Mean NLL of an answer token over all slots, nats, for each prefix. No gradient.
std::vector<double> prefix_losses(const Model& model, std::span<const PrefixSlot> slots,
                                  std::span<const std::vector<int64_t>> prefixes,
                                  int64_t batch_tokens);

/// Gradient of that loss with respect to the one-hot choice of token at each place, [n, vocab]:
/// dL/dx_i · embedding, summed over the slots.
at::Tensor prefix_gradient(const Model& model, std::span<const PrefixSlot> slots,
                           const std::vector<int64_t>& prefix, int64_t batch_tokens);

/// The search. `text` is left empty. Throws Error when there are no slots or no acceptable prefix.
AdversarialPrefix search_prefix(const Model& model, std::span<const PrefixSlot> slots,
                                const PrefixVocabulary& vocabulary, const PrefixSettings& settings);

/// Tokens that can be typed: not special, and encoded to themselves.
std::vector<int64_t> typeable_tokens(const Tokenizer& tokenizer);

/// Searches on the lines of `held`, asked by their seen questions, in all languages of the suite.
AdversarialPrefix find_prefix(const Model& model, const Suite& suite,
                              const std::vector<std::string>& held, const Tokenizer& tokenizer,
                              const ChatFormat& chat, const PrefixSettings& settings);

/// Probes of all items, each question behind the prefix and a line break, encoded as text. Throws
/// Error when one exceeds `context` tokens.
std::vector<Probe> prefix_probes(const Suite& suite, const std::string& prefix,
                                 const Tokenizer& tokenizer, const ChatFormat& chat, Answer answer,
                                 bool held_out, int64_t context);

}  // namespace resurface
