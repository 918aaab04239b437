// The project's own Python scripts, which are glue around packages that only Python has.
#pragma once

#include <string>
#include <vector>

namespace resurface {

/// Runs scripts/NAME with these arguments and waits; what it prints goes to our own outputs. The
/// interpreter is $RESURFACE_PYTHON, $RESURFACE_VENV's, the project's .venv's or python3, the first
/// that there is. Throws Error when there is none, or when the script fails, which then has said
/// why on stderr.
void run_script(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace resurface
