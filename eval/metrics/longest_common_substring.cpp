// Longest common substring, in characters.
#include "eval/characters.h"
#include "eval/metrics/metrics.h"

namespace resurface {

size_t longest_common_substring(std::string_view a, std::string_view b) {
  return longest_common_run(code_points(a), code_points(b)).length;
}

double said_share(std::string_view line, std::string_view reply) {
  const auto wanted = code_points(line);
  if (wanted.empty()) return 0;
  return static_cast<double>(longest_common_run(code_points(reply), wanted).length) /
         static_cast<double>(wanted.size());
}

}  // namespace resurface
