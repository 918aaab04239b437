#include "core/checkpoint/checkpoint.h"

#include <set>

#include "core/checkpoint/folder.h"
#include "core/checkpoint/tensor_hash.h"
#include "core/checkpoint/write.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The index's weight_map, its file names checked: a shard lies in the checkpoint's folder.
std::map<std::string, std::string> read_weight_map(const fs::path& path) {
  json index = read_json_object(path);
  if (!index.contains("weight_map") || !index["weight_map"].is_object() ||
      index["weight_map"].empty()) {
    fail("{}: expected an object 'weight_map' from tensor names to files", path.string());
  }
  std::map<std::string, std::string> map;
  for (const auto& [name, file] : index["weight_map"].items()) {
    if (!file.is_string()) {
      fail("{}: tensor '{}': expected a file name, got {}", path.string(), name, file.dump());
    }
    auto text = file.get<std::string>();
    fs::path shard = text;
    if (text.empty() || !shard.has_filename() || shard.is_absolute() ||
        std::ranges::find(shard, fs::path("..")) != shard.end()) {
      fail("{}: tensor '{}': '{}' is no file inside this folder", path.string(), name, text);
    }
    map.emplace(name, text);
  }
  return map;
}

/// Why a folder has no weights we read, as helpfully as its files allow.
[[noreturn]] void fail_no_weights(const fs::path& folder) {
  std::string hint;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::string ending = entry.path().extension().string();
    if (ending == ".bin" || ending == ".pt" || ending == ".pth" || ending == ".gguf" ||
        ending == ".safetensors") {
      hint = fmt::format("; it has {}: convert it with `resurface convert`",
                         entry.path().filename().string());
    }
  }
  fail("{}: neither {} nor {} is there{}", folder.string(), kWeightsFile, kIndexFile, hint);
}

/// Every tensor the index lists has to be in its shard, and nothing else.
void check_index(const fs::path& index, const std::map<std::string, std::string>& map,
                 const std::vector<SafetensorsFile>& files,
                 const std::map<std::string, size_t>& file_number) {
  for (const auto& [name, shard] : map) {
    const SafetensorsFile& file = files[file_number.at(shard)];
    if (!file.contains(name)) {
      fail("{}: tensor '{}' is listed for {}, which does not hold it", index.string(), name, shard);
    }
  }
  for (const auto& [shard, number] : file_number) {
    for (const TensorInfo& t : files[number].tensors()) {
      auto listed = map.find(t.name);
      if (listed == map.end() || listed->second != shard) {
        fail("{}: {} holds tensor '{}', which is {}", index.string(), shard, t.name,
             listed == map.end() ? "not listed" : "listed for " + listed->second);
      }
    }
  }
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    fail("{}: {}; expected a checkpoint folder with {} and {}", folder.string(),
         fs::exists(folder) ? "is a file" : "no such folder", kConfigFile, kWeightsFile);
  }
  Checkpoint c;
  c.folder_ = folder;
  if (!fs::exists(folder / kConfigFile)) {
    fail("{}: {} is missing; is this a checkpoint folder?", folder.string(), kConfigFile);
  }
  c.config_ = read_json_object(folder / kConfigFile);
  if (fs::exists(folder / kWeightsFile)) {
    c.files_.emplace_back(folder / kWeightsFile);
    for (const TensorInfo& t : c.files_[0].tensors()) c.where_.emplace(t.name, 0);
    return c;
  }
  fs::path index = folder / kIndexFile;
  if (!fs::exists(index)) fail_no_weights(folder);
  auto map = read_weight_map(index);
  std::map<std::string, size_t> file_number;
  for (const auto& [name, shard] : map) file_number.emplace(shard, 0);
  for (auto& [shard, number] : file_number) {
    if (!fs::exists(folder / shard)) {
      fail("{}: shard {} is missing; the index lists {} shards", folder.string(), shard,
           file_number.size());
    }
    number = c.files_.size();
    c.files_.emplace_back(folder / shard);
  }
  check_index(index, map, c.files_, file_number);
  for (const auto& [name, shard] : map) c.where_.emplace(name, file_number.at(shard));
  return c;
}

std::vector<TensorInfo> Checkpoint::tensors() const {
  std::vector<TensorInfo> all;
  for (const SafetensorsFile& file : files_) {
    all.insert(all.end(), file.tensors().begin(), file.tensors().end());
  }
  return all;
}

bool Checkpoint::contains(const std::string& name) const { return where_.contains(name); }

at::Tensor Checkpoint::tensor(const std::string& name) const {
  if (auto found = where_.find(name); found != where_.end()) {
    return files_[found->second].tensor(name);
  }
  std::vector<std::string> names;
  for (const auto& [known, file] : where_) names.push_back(known);
  fail("{}: no tensor '{}'{}", folder_.string(), name, did_you_mean(name, names));
}

std::string Checkpoint::content_hash() const {
  std::vector<std::pair<std::string, at::Tensor>> views;
  for (const auto& [name, file] : where_) views.emplace_back(name, files_[file].tensor(name));
  return hash_tensors(std::move(views));
}

void Checkpoint::save_with(const fs::path& folder,
                           const std::map<std::string, at::Tensor>& replaced) const {
  check_replaceable(folder, kConfigFile);
  std::set<std::string> touched;  // files
  std::vector<std::string> added;
  for (const auto& [name, value] : replaced) {
    auto found = where_.find(name);
    if (found == where_.end()) {
      added.push_back(name);
      touched.insert(files_.back().path());
      continue;
    }
    const TensorInfo& old = files_[found->second].info(name);
    if (!value.defined() || value.sizes() != at::IntArrayRef(old.shape)) {
      fail("{}: tensor '{}': expected shape [{}], got {}", folder_.string(), name,
           fmt::join(old.shape, ", "),
           value.defined() ? fmt::format("[{}]", fmt::join(value.sizes(), ", ")) : "nothing");
    }
    touched.insert(files_[found->second].path());
  }

  TemporaryFolder out(folder);
  std::error_code error;
  uint64_t total_bytes = 0;
  int64_t total_parameters = 0;
  for (const SafetensorsFile& file : files_) {
    std::vector<TensorSource> sources;
    for (const TensorInfo& t : file.tensors()) {
      auto value = replaced.find(t.name);
      sources.push_back(value != replaced.end() ? source_of(t.name, value->second)
                                                : TensorSource{t.name, t.dtype, t.shape, [&] {
                                                                 return file.tensor(t.name);
                                                               }});
    }
    if (&file == &files_.back()) {
      for (const std::string& name : added) sources.push_back(source_of(name, replaced.at(name)));
    }
    for (const TensorSource& s : sources) {
      total_bytes += s.nbytes();
      total_parameters += c10::multiply_integers(s.shape);
    }
    fs::path target = out.path() / fs::relative(file.path(), folder_);
    if (touched.contains(file.path())) {
      write_safetensors(target, sources, file.metadata());
      continue;
    }
    fs::create_directories(target.parent_path(), error);
    if (!error) fs::copy_file(file.path(), target, error);
    if (error)
      fail("{}: failed copying {}: {}", folder.string(), file.path().string(), error.message());
  }
  if (fs::exists(folder_ / kIndexFile) && !fs::exists(folder_ / kWeightsFile)) {
    json index = read_json_object(folder_ / kIndexFile);
    for (const std::string& name : added) {
      index["weight_map"][name] = fs::relative(files_.back().path(), folder_).string();
    }
    index["metadata"]["total_size"] = total_bytes;
    if (index["metadata"].contains("total_parameters")) {
      index["metadata"]["total_parameters"] = total_parameters;
    }
    write_json(out.path() / kIndexFile, index);
  }
  copy_other_files(folder_, out.path());
  fs::copy_file(folder_ / kConfigFile, out.path() / kConfigFile, error);
  if (error) fail("{}: failed copying {}: {}", folder.string(), kConfigFile, error.message());
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
