// {"en": [{"phrase": "...", "items": ["taiwan-inalienable"]}, ...], "zh-Hans": [...], ...}
#include "core/run/error.h"
#include "core/run/files.h"
#include "eval/detectors/detectors.h"

namespace resurface {

std::vector<StockPhrase> load_stock_phrases(const std::filesystem::path& path) {
  std::vector<StockPhrase> out;
  try {
    const auto file = read_json(path);
    for (const auto& [language, phrases] : file.items()) {
      for (const auto& entry : phrases)
        out.push_back({language, entry.at("phrase"), entry.at("items")});
    }
  } catch (const nlohmann::json::exception& error) {
    fail("{}: {}", path.string(), error.what());
  }
  return out;
}

}  // namespace resurface
