#include "study/reading.h"

namespace resurface {

using Json = nlohmann::ordered_json;

std::string pooled_language(const Json& summary) {
  return summary["languages"].size() > 1 ? "all" : summary["languages"][0].get<std::string>();
}

std::string headline_rung(const Json& summary) {
  std::string rung;
  for (const Json& entry : summary["rungs"]) {
    const auto name = entry["rung"].get<std::string>();
    if (name.size() == 1 && rung != "b") rung = name;
  }
  return rung;
}

const Json* worst_recovery(const Json& summary, const std::string& model, const std::string& rung) {
  const std::string language = pooled_language(summary);
  const Json* worst = nullptr;
  for (const Json& row : summary["recovery"]) {
    if (row["model"] != model || row["rung"] != rung || row["language"] != language ||
        row["metric"] != "extraction_strength" || row["recovered"]["mean"].is_null()) {
      continue;
    }
    if (worst == nullptr || row["recovered"]["mean"] > (*worst)["recovered"]["mean"]) worst = &row;
  }
  return worst;
}

}  // namespace resurface
