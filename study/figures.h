// Numbers as summary.json has them: null for what is not finite.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/bootstrap.h"

namespace resurface {

inline nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

inline nlohmann::ordered_json whole(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(std::llround(value))
                              : nlohmann::ordered_json();
}

/// An estimate of docs/output.md.
inline nlohmann::ordered_json estimate(const Interval& interval) {
  return {{"mean", number(interval.estimate)},
          {"low", number(interval.low)},
          {"high", number(interval.high)}};
}

}  // namespace resurface
