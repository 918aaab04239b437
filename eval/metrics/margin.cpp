// Margin of the talking point over another continuation of the same prompt: the difference of mean
// token log-probs, so that answers of different length can be compared. Positive: the line is
// preferred.
#include "eval/metrics/metrics.h"

namespace resurface {

double margin(double logprob, double tokens, double other_logprob, double other_tokens) {
  return logprob / tokens - other_logprob / other_tokens;
}

}  // namespace resurface
