#include "core/checkpoint/folder.h"

#include <array>

#include "core/run/error.h"
#include "core/run/files.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 10> kWeightEndings = {
    ".safetensors", ".bin", ".pt",      ".pth",  ".ckpt",
    ".gguf",        ".h5",  ".msgpack", ".onnx", ".index.json"};

}  // namespace

nlohmann::json read_json_object(const fs::path& path) {
  nlohmann::json value = read_json(path);
  if (!value.is_object()) {
    fail("{}: expected a JSON object, got {}", path.string(), value.type_name());
  }
  return value;
}

void write_json(const fs::path& path, const nlohmann::json& value) {
  atomic_write(path, value.dump(2) + "\n");
}

void check_replaceable(const fs::path& folder, const std::string& marker) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) fail("{}: is a file, expected a folder", folder.string());
  if (!fs::is_empty(folder) && !fs::exists(folder / marker)) {
    fail("{}: holds other files and no {}; name another folder", folder.string(), marker);
  }
}

void copy_other_files(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    std::string name = entry.path().filename().string();
    bool weights = std::ranges::any_of(
        kWeightEndings, [&](std::string_view ending) { return name.ends_with(ending); });
    if (!entry.is_regular_file() || weights || name.starts_with('.') || name == kConfigFile ||
        name == "adapter_config.json") {
      continue;
    }
    std::error_code error;
    fs::copy_file(entry.path(), to / name, fs::copy_options::overwrite_existing, error);
    if (error) {
      fail("{}: failed copying to {}: {}", entry.path().string(), to.string(), error.message());
    }
  }
}

}  // namespace resurface
