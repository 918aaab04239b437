// Figures of a summary that more than one table shows; scripts/report_parts/load.py reads the same.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace resurface {

/// The languages pooled, or the study's only one.
std::string pooled_language(const nlohmann::ordered_json& summary);

/// Of the headline: b; where it was not run, the last of the ladder; empty: no attack.
std::string headline_rung(const nlohmann::ordered_json& summary);

/// The record of extraction strength, languages pooled, of the reach that brought most back: the
/// attacker's choice. Null where the recovered fraction is not defined.
const nlohmann::ordered_json* worst_recovery(const nlohmann::ordered_json& summary,
                                             const std::string& model, const std::string& rung);

}  // namespace resurface
