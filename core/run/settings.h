// Typed settings: a struct with defaults and one `visit` that lists its fields. Reading from YAML,
// printing the resolved config, hashing, `resurface methods` and the reference page all come from
// that list, so a field is named once.
//
//   struct NpoSettings {
//     double beta = 0.1;
//     template <class V> void visit(V& v) {
//       v("beta", beta, "inverse temperature; NPO tends to GA as beta -> 0", Range::above(0));
//     }
//   };
//
// Field types: bool, int64_t, double, std::string, std::vector of these, std::optional of these,
// std::filesystem::path, and structs that have a `visit` themselves (and vectors of those).
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace resurface {

/// Bounds of a number, checked when a config is read.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open_low = false;  ///< true: low itself is not allowed

  static Range any() { return {}; }
  static Range at_least(double low) { return {.low = low}; }
  static Range above(double low) { return {.low = low, .open_low = true}; }
  static Range between(double low, double high) { return {.low = low, .high = high}; }
};

/// The allowed values of a string field.
struct OneOf {
  std::vector<std::string> values;
};

template <class T, class V>
concept HasVisit = requires(T t, V v) {
  t.visit(v);
};

}  // namespace resurface
