// Settings as they enter the keys of stored results.
#pragma once

#include "core/run/config.h"

namespace resurface {

/// to_json without those fields of T::kLater (JSON pointers) that are at their default: what was
/// not yet a choice when results were stored leaves no trace in their keys, so they stay valid.
template <class T>
nlohmann::ordered_json key_json(const T& settings) {
  auto json = to_json(settings);
  const auto defaults = to_json(T{});
  for (const char* later : T::kLater) {
    const nlohmann::ordered_json::json_pointer field(later);
    if (json.at(field) == defaults.at(field)) json.at(field.parent_pointer()).erase(field.back());
  }
  return json;
}

}  // namespace resurface
