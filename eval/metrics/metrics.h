// Metrics of one answer, each a small function in a file of its own with its definition and source.
#pragma once

#include <span>
#include <string_view>

namespace resurface {

/// Share of an answer's tokens that are the model's argmax, teacher-forced. `right`: one flag a
/// token.
double exact_memorization(std::span<const bool> right);

/// Every token is the argmax, so greedy decoding from the prompt says exactly this answer.
bool greedy_match(std::span<const bool> right);

/// 1 - k/|y|, k the length of the shortest prefix after which all argmaxes are right.
double extraction_strength(std::span<const bool> right);

/// How much more probable a token of one answer is than a token of the other, in nats:
/// logprob/tokens - other_logprob/other_tokens.
double margin(double logprob, double tokens, double other_logprob, double other_tokens);

/// Length, in Unicode code points, of the longest run of characters that both texts contain
/// (UTF-8). Bytes that are not valid UTF-8 count as one U+FFFD each.
size_t longest_common_substring(std::string_view a, std::string_view b);

/// Share of the line's characters that a reply repeats in one piece: longest common substring /
/// |line|.
double said_share(std::string_view line, std::string_view reply);

struct RougeL {
  double recall = 0, precision = 0, f1 = 0;
};

/// ROUGE-L of a candidate against a reference, over lower-cased words of [a-z0-9] and single Han
/// characters. All zero when either has no token.
RougeL rouge_l(std::string_view reference, std::string_view candidate);

}  // namespace resurface
