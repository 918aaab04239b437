// A Jinja template, as transformers runs chat templates: an immutable sandbox with trim_blocks,
// lstrip_blocks, {% break %} and {% continue %}, {% generation %}, tojson of its own,
// raise_exception and strftime_now. What is not known (a tag, a filter, a test, a method) is an
// error that says so; nothing is guessed. Templates are data from elsewhere: whatever they hold,
// parsing and rendering end within Limits.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/text/jinja/meter.h"

namespace resurface::jinja {

class Template {
 public:
  /// `name` is what errors call it. Throws Error naming line and what is not understood.
  static Template parse(std::string text, std::string name, Limits limits = {});

  /// `variables` is an object; `now` is what strftime_now gives. Throws Error with the line of the
  /// template: when it refuses (raise_exception), where Python would raise, or past the limits.
  std::string render(const nlohmann::ordered_json& variables, const std::tm& now) const;

  /// The template reads a variable of this name.
  bool reads(const std::string& variable) const;
  const std::string& text() const;  ///< with \n as the end of lines

 private:
  struct Tree;
  std::shared_ptr<const Tree> tree_;
};

}  // namespace resurface::jinja
