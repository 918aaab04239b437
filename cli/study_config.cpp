#include "cli/study_config.h"

namespace resurface {

StudyConfig load_study(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                       const Globals& globals, const CLI::App& app) {
  StudyConfig config = load_study(path, overrides);
  if (app.get_option("--device")->count() > 0) config.device = globals.device;
  if (app.get_option("--dtype")->count() > 0) config.compute = globals.dtype;
  if (app.get_option("--seed")->count() > 0) config.seed = globals.seed;
  return config;
}

}  // namespace resurface
