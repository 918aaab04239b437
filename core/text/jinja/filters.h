// What filters share. A filter is a function of a value and arguments, in the table of filters.cpp.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/text/jinja/interpreter.h"

namespace resurface::jinja {

using Bound = std::vector<std::optional<Value>>;
using Filter = Value (*)(Interpreter&, const Value&, const Args&);

/// Of sequences: map, select, sort, join, ... (filters_of_sequences.cpp).
const std::map<std::string, Filter>& sequence_filters();

}  // namespace resurface::jinja
