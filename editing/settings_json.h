// A settings struct as JSON, for the metadata of an edit file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/run/settings.h"

namespace resurface {

struct SettingsToJson {
  nlohmann::json out = nlohmann::json::object();

  template <class T, class... Rest>
  void operator()(const std::string& name, T& field, const Rest&...) {
    if constexpr (HasVisit<T, SettingsToJson>) {
      SettingsToJson inner;
      field.visit(inner);
      out[name] = inner.out;
    } else {
      out[name] = field;
    }
  }
};

template <class T>
nlohmann::json settings_json(T settings) {
  SettingsToJson visitor;
  settings.visit(visitor);
  return visitor.out;
}

}  // namespace resurface
