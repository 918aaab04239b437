// Writing checkpoints from those that were opened.
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/lora_merge.h"
#include "core/checkpoint/write.h"
#include "core/run/error.h"
#include "core/run/files.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::map<std::string, std::string> kTorchMetadata = {{"format", "pt"}};

/// What a file of weights is called as safetensors: transformers' names.
std::string safetensors_name(const fs::path& file, bool indexed) {
  if (!indexed) return kWeightsFile;
  if (file.extension() == ".safetensors") return file.string();
  std::string stem = file.stem().string();
  if (stem.starts_with("pytorch_model")) stem = stem.substr(std::string_view("pytorch_").size());
  return (file.parent_path() / (stem + ".safetensors")).string();
}

std::string weight_of_scale(const std::string& name) {
  return name.substr(0, name.size() - kScaleSuffix.size());
}

}  // namespace

void Checkpoint::save_with(const fs::path& folder,
                           const std::map<std::string, at::Tensor>& replaced) const {
  check_replaceable(folder, kConfigFile);
  std::vector<std::string> added;
  if (lora_) {
    for (const TensorInfo& t : lora_->added()) added.push_back(t.name);
  }
  std::map<std::string, TensorInfo> known;
  for (TensorInfo& t : tensors()) known.emplace(t.name, t);
  for (const auto& [name, value] : replaced) {
    const auto old = known.find(name);
    if (old == known.end()) {
      added.push_back(name);
    } else if (!value.defined() || value.sizes() != at::IntArrayRef(old->second.shape)) {
      fail("{}: tensor '{}': expected shape [{}], got {}", folder_.string(), name,
           fmt::join(old->second.shape, ", "),
           value.defined() ? fmt::format("[{}]", fmt::join(value.sizes(), ", ")) : "nothing");
    }
  }
  const auto changed = [&](const std::string& name) {
    return replaced.contains(name) || (lora_ && lora_->changes(name));
  };
  const auto value_of = [&](const std::string& name) {
    const auto value = replaced.find(name);
    return value != replaced.end() ? value->second : tensor(name);
  };
  /// The values or the scales of a changed weight, both computed for each of them: only one is
  /// held.
  const auto quantised = [&](const std::string& name, bool scales) {
    const TensorInfo& old = stored(name + std::string(kScaleSuffix));
    auto [q, s] = quantise_fp8(name, value_of(name), *fp8_, old.dtype);
    return scales ? s.view(old.shape) : q;
  };
  const auto source = [&](const TensorFile& file, const TensorInfo& t) -> TensorSource {
    const std::string weight = is_scale(t.name) ? weight_of_scale(t.name) : t.name;
    if (!changed(weight)) {
      return {t.name, t.dtype, t.shape, [&file, &t] { return file.tensor(t.name); }};
    }
    if (is_fp8(weight)) {
      return {t.name, t.dtype, t.shape,
              [&, weight, scales = weight != t.name] { return quantised(weight, scales); }};
    }
    if (replaced.contains(weight)) return source_of(weight, replaced.at(weight));
    return {t.name, t.dtype, known.at(weight).shape, [&, weight] { return tensor(weight); }};
  };

  TemporaryFolder out(folder);
  std::error_code error;
  uint64_t total_bytes = 0;
  int64_t total_parameters = 0;
  json map = json::object();
  for (const TensorFile& file : files_) {
    const std::string name = safetensors_name(fs::relative(file.path(), folder_), !index_.empty());
    bool same = file.safetensors();
    std::vector<TensorSource> sources;
    for (const TensorInfo& t : file.tensors()) {
      sources.push_back(source(file, t));
      same &= !changed(t.name) && !(is_scale(t.name) && changed(weight_of_scale(t.name)));
    }
    if (&file == &files_.back()) {
      for (const std::string& tensor_name : added) {
        const at::Tensor value = value_of(tensor_name);
        sources.push_back(source_of(tensor_name, value));
      }
      same &= added.empty();
    }
    for (const TensorSource& s : sources) {
      map[s.name] = name;
      total_bytes += s.nbytes();
      total_parameters += c10::multiply_integers(s.shape);
    }
    const fs::path target = out.path() / name;
    if (!same) {
      write_safetensors(target, sources, file.safetensors() ? file.metadata() : kTorchMetadata);
      continue;
    }
    fs::create_directories(target.parent_path(), error);
    if (!error) fs::copy_file(file.path(), target, error);
    if (error) {
      fail("{}: failed copying {}: {}", folder.string(), file.path().string(), error.message());
    }
  }
  if (!index_.empty()) {
    json index = read_json_object(index_);
    index["weight_map"] = map;
    if (!index["metadata"].is_object()) index["metadata"] = json::object();
    index["metadata"]["total_size"] = total_bytes;
    if (index["metadata"].contains("total_parameters")) {
      index["metadata"]["total_parameters"] = total_parameters;
    }
    write_json(out.path() / kIndexFile, index);
  }
  copy_other_files(folder_, out.path());
  if (lora_) {
    copy_other_files(adapter_, out.path());
    write_json(out.path() / kConfigFile, config_);
  } else {
    fs::copy_file(folder_ / kConfigFile, out.path() / kConfigFile, error);
    if (error) fail("{}: failed copying {}: {}", folder.string(), kConfigFile, error.message());
  }
  out.commit();
}

void write_checkpoint(const fs::path& folder, const json& config,
                      const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  check_replaceable(folder, kConfigFile);
  TemporaryFolder out(folder);
  write_safetensors(out.path() / kWeightsFile, tensors);
  write_json(out.path() / kConfigFile, config);
  out.commit();
}

}  // namespace resurface
