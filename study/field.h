// The field's benchmarks (docs/field_metrics.md) in a study: from the config to field.jsonl and
// the summary.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "study/config.h"
#include "study/summary.h"

namespace resurface {

/// Reads the list `field` of a study. Errors name file, line and key.
std::vector<FieldEntry> read_field(const Config& list);

/// The settings with each file replaced by its content's hash (a checkpoint folder by its
/// weights'): what results depend on. Throws Error for a file that cannot be read.
nlohmann::ordered_json field_key(const FieldEntry& entry);

/// The numbers of a benchmark's aggregates by dotted name ("forget.probability"); what is null is
/// left out.
std::vector<std::pair<std::string, nlohmann::ordered_json>> field_metrics(
    const nlohmann::ordered_json& result);

/// summary.json's `field`.
nlohmann::ordered_json field_summary(const StudyConfig& config,
                                     const std::vector<StudyModel>& models);

/// field.jsonl, and each result whole as field/<model>/<benchmark>.json.
void write_field(const std::filesystem::path& out, const StudyConfig& config,
                 const std::vector<StudyModel>& models);

}  // namespace resurface
