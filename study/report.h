// report.html of a run folder, drawn by scripts/report.py.
#pragma once

#include <filesystem>

namespace resurface {

/// Throws Error with the script's own words when it fails.
void write_report(const std::filesystem::path& run);

}  // namespace resurface
