// What the writers of checkpoint folders share.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace resurface {

inline constexpr const char* kConfigFile = "config.json";
inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// A JSON file that has to be an object.
nlohmann::json read_json_object(const std::filesystem::path& path);
void write_json(const std::filesystem::path& path, const nlohmann::json& value);

/// Throws when `folder` holds something else than what replaces it: it may be absent, empty, or
/// have a file called `marker`.
void check_replaceable(const std::filesystem::path& folder, const std::string& marker);

/// Copies what belongs to a checkpoint besides config.json and weights: tokenizer, generation
/// config, licence, ... Not hidden files, nor weights in any format, nor adapter_config.json.
/// Replaces files that are there.
void copy_other_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace resurface
