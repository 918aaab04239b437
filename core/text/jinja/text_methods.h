// The methods of Python's str.
#pragma once

#include <optional>
#include <string>

#include "core/text/jinja/interpreter.h"

namespace resurface::jinja {

using TextMethod = Value (*)(Interpreter&, const std::string&, const Args&);

/// Null when str has no such method. One that str has and that is not known here throws Fault when
/// it is called.
TextMethod text_method(const std::string& name);

/// text.replace(old, with, count); a negative count is all.
std::string replaced(Meter& meter, const std::string& text, const std::string& old,
                     const std::string& with, int64_t count);
std::string centered(Meter& meter, const std::string& text, int64_t width, char fill);

}  // namespace resurface::jinja
