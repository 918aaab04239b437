// Opening and reading checkpoints; save.cpp writes them.
#include "core/checkpoint/checkpoint.h"

#include <set>

#include "core/checkpoint/folder.h"
#include "core/checkpoint/lora_merge.h"
#include "core/checkpoint/tensor_hash.h"
#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kPickleFile = "pytorch_model.bin";
constexpr const char* kPickleIndex = "pytorch_model.bin.index.json";

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

/// What a trainer leaves beside the weights.
bool is_other_state(const std::string& name) {
  for (const char* start :
       {"training_args", "optimizer", "scheduler", "rng_state", "scaler", "adapter_model"}) {
    if (name.starts_with(start)) return true;
  }
  return false;
}

/// The one state dict in a folder that names it in a way of its own. (A safetensors file of another
/// name is as a rule something else: goldens, an index, activations.)
fs::path find_weights(const fs::path& folder) {
  std::vector<std::string> files, others;
  std::string gguf;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string ending = entry.path().extension().string(),
                      name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.starts_with('.')) continue;
    if (ending == ".gguf") gguf = name;
    if ((ending == ".bin" || ending == ".pt" || ending == ".pth") && !is_other_state(name)) {
      files.push_back(name);
    }
    if (ending == ".safetensors" && !is_other_state(name)) others.push_back(name);
  }
  if (files.size() == 1) return folder / files[0];
  files.insert(files.end(), others.begin(), others.end());
  std::ranges::sort(files);
  std::string hint;
  if (!gguf.empty()) {
    hint = fmt::format("; it has {}: make a checkpoint of it with `resurface convert`", gguf);
  } else if (!files.empty()) {
    hint = fmt::format("; it has {}: name the file of the weights instead of the folder",
                       fmt::join(files, ", "));
  }
  fail("{}: neither {} nor {} is there{}", folder.string(), kWeightsFile, kIndexFile, hint);
}

/// Every tensor the index lists has to be in its shard, and nothing else.
void check_index(const fs::path& index, const std::map<std::string, std::string>& map,
                 const std::vector<TensorFile>& files,
                 const std::map<std::string, size_t>& file_number) {
  for (const auto& [name, shard] : map) {
    const TensorFile& file = files[file_number.at(shard)];
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

/// The base that adapter_config.json names.
fs::path find_base(const fs::path& adapter) {
  const fs::path path = adapter / kAdapterConfig;
  const json named = read_json_object(path).value("base_model_name_or_path", json());
  const auto name = named.is_string() ? named.get<std::string>() : std::string();
  if (!name.empty()) {
    for (const fs::path& folder : {adapter / name, fs::path(name)}) {
      if (fs::exists(folder / kConfigFile)) return folder;
    }
  }
  fail(
      "{}: its base model {} is no checkpoint folder here; name the folder of the base "
      "(resurface convert --base DIR merges it once and for all), or put it into "
      "base_model_name_or_path",
      path.string(), named.dump());
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& path, const fs::path& base) {
  const bool file = fs::is_regular_file(path);
  if (!file && !fs::is_directory(path)) {
    fail("{}: no such folder; expected a checkpoint folder with {} and {}", path.string(),
         kConfigFile, kWeightsFile);
  }
  Checkpoint c;
  fs::path weights = path;
  if (!file && fs::exists(path / kAdapterConfig)) {
    c.adapter_ = path;
    weights = base.empty() ? find_base(path) : base;
    if (fs::exists(weights / kAdapterConfig) && !fs::equivalent(weights, path)) {
      fail("{}: its base {} is an adapter itself; merge that one first: resurface convert {} DST",
           path.string(), weights.string(), weights.string());
    }
  } else if (!base.empty()) {
    fail("{}: is no adapter, and a base was given ({})", path.string(), base.string());
  }
  c.folder_ = fs::is_regular_file(weights) ? weights.parent_path() : weights;
  if (c.folder_.empty()) c.folder_ = ".";
  if (!fs::exists(c.folder_ / kConfigFile)) {
    fail("{}: {} is missing; is this a checkpoint folder?", c.folder_.string(), kConfigFile);
  }
  c.config_ = read_json_object(c.folder_ / kConfigFile);
  c.fp8_ = read_quantization(c.config_, (c.folder_ / kConfigFile).string());
  c.open_weights(weights);
  c.check_scales();
  if (!c.adapter_.empty()) {
    auto lora = std::make_shared<LoraMerge>(c.adapter_, c.tensors());
    lora->adapt(c.config_);
    c.lora_ = lora;
  }
  return c;
}

void Checkpoint::open_weights(const fs::path& path) {
  if (fs::is_regular_file(path)) {
    files_.push_back(TensorFile::open(path));
  } else if (fs::exists(path / kWeightsFile)) {
    files_.push_back(TensorFile::open(path / kWeightsFile));
  } else if (fs::exists(path / kIndexFile)) {
    open_index(path / kIndexFile);
  } else if (fs::exists(path / kPickleFile)) {
    files_.push_back(TensorFile::open(path / kPickleFile));
  } else if (fs::exists(path / kPickleIndex)) {
    open_index(path / kPickleIndex);
  } else {
    files_.push_back(TensorFile::open(find_weights(path)));
  }
  if (index_.empty()) {
    for (const TensorInfo& t : files_[0].tensors()) where_.emplace(t.name, 0);
  }
}

void Checkpoint::open_index(const fs::path& index) {
  index_ = index;
  auto map = read_weight_map(index);
  std::map<std::string, size_t> file_number;
  for (const auto& [name, shard] : map) file_number.emplace(shard, 0);
  for (auto& [shard, number] : file_number) {
    if (!fs::exists(folder_ / shard)) {
      fail("{}: shard {} is missing; the index lists {} shards", folder_.string(), shard,
           file_number.size());
    }
    number = files_.size();
    files_.push_back(TensorFile::open(folder_ / shard));
  }
  check_index(index, map, files_, file_number);
  for (const auto& [name, shard] : map) where_.emplace(name, file_number.at(shard));
}

const TensorInfo& Checkpoint::stored(const std::string& name) const {
  return files_[where_.at(name)].info(name);
}

bool Checkpoint::is_scale(const std::string& name) const {
  return fp8_ && name.ends_with(kScaleSuffix) &&
         where_.contains(name.substr(0, name.size() - kScaleSuffix.size()));
}

bool Checkpoint::is_fp8(const std::string& name) const {
  return fp8_ && where_.contains(name + std::string(kScaleSuffix));
}

/// Weights and scales have to fit each other and what config.json says.
void Checkpoint::check_scales() const {
  for (const auto& [name, file] : where_) {
    if (name.ends_with(".qweight")) {
      fail(
          "{}: tensor '{}': packed integers (GPTQ, AWQ) are not read; use the checkpoint that it "
          "was made from",
          files_[file].path().string(), name);
    }
    if (!fp8_) continue;
    const TensorInfo& weight = stored(name);
    const std::string where = fmt::format("{}: tensor '{}'", files_[file].path().string(), name);
    if (!is_fp8(name)) {
      if (weight.dtype == at::ScalarType::Float8_e4m3fn) {
        fail("{}: is fp8, and there is no '{}{}'", where, name, kScaleSuffix);
      }
      continue;
    }
    if (weight.dtype != at::ScalarType::Float8_e4m3fn || weight.shape.size() != 2) {
      fail("{}: has scales; expected two dimensions of F8_E4M3, got [{}] of {}", where,
           fmt::join(weight.shape, ", "), c10::toString(weight.dtype));
    }
    const TensorInfo& scales = stored(name + std::string(kScaleSuffix));
    const auto expected = fp8_->scale_shape(weight.shape);
    const bool one = fp8_->rows == 0 && c10::multiply_integers(scales.shape) == 1;
    if ((scales.shape != expected && !one) || !at::isFloatingType(scales.dtype)) {
      fail("{}: shape [{}] in blocks of {} x {} has scales [{}], got [{}] of {}", where,
           fmt::join(weight.shape, ", "), fp8_->rows, fp8_->cols, fmt::join(expected, ", "),
           fmt::join(scales.shape, ", "), c10::toString(scales.dtype));
    }
  }
}

std::vector<TensorInfo> Checkpoint::tensors() const {
  std::vector<TensorInfo> all;
  for (const TensorFile& file : files_) {
    for (TensorInfo t : file.tensors()) {
      if (is_scale(t.name)) continue;
      if (is_fp8(t.name)) t.dtype = at::kFloat;
      if (lora_) lora_->describe(t);
      all.push_back(std::move(t));
    }
  }
  for (TensorInfo t : lora_ ? lora_->added() : std::vector<TensorInfo>()) {
    lora_->describe(t);
    all.push_back(std::move(t));
  }
  return all;
}

bool Checkpoint::contains(const std::string& name) const {
  return (where_.contains(name) && !is_scale(name)) || (lora_ && lora_->changes(name));
}

at::Tensor Checkpoint::base_tensor(const std::string& name) const {
  at::Tensor values = files_[where_.at(name)].tensor(name);
  if (!fp8_ || !is_fp8(name)) return values;
  const std::string scales = name + std::string(kScaleSuffix);
  return dequantise_fp8(values, files_[where_.at(scales)].tensor(scales), *fp8_);
}

at::Tensor Checkpoint::tensor(const std::string& name) const {
  if (lora_ && lora_->changes(name)) {
    const std::string& origin = lora_->origin(name);
    return lora_->merge(name, origin.empty() ? at::Tensor() : base_tensor(origin));
  }
  if (contains(name)) return base_tensor(name);
  std::vector<std::string> names;
  for (const TensorInfo& t : tensors()) names.push_back(t.name);
  fail("{}: no tensor '{}'{}", folder_.string(), name, did_you_mean(name, names));
}

void Checkpoint::release(const at::Tensor& part) const {
  for (const TensorFile& file : files_) file.release(part);
}

std::string Checkpoint::content_hash() const {
  std::vector<TensorSource> sources;
  for (const TensorInfo& t : tensors()) {
    sources.push_back({t.name, t.dtype, t.shape, [this, name = t.name] { return tensor(name); }});
  }
  return hash_tensors(std::move(sources));
}

fs::path checkpoint_file(const fs::path& checkpoint, const std::string& name) {
  const fs::path folder = fs::is_regular_file(checkpoint) ? checkpoint.parent_path() : checkpoint;
  if (fs::exists(folder / name) || !fs::exists(folder / kAdapterConfig)) return folder / name;
  return find_base(folder) / name;
}

}  // namespace resurface
