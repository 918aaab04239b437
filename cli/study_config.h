// The study that a subcommand works on.
#pragma once

#include "cli/command.h"
#include "study/config.h"

namespace resurface {

/// The file with its overrides; where the command line's own options say something, they win.
StudyConfig load_study(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                       const Globals& globals, const CLI::App& app);

}  // namespace resurface
