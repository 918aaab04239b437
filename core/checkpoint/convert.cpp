#include "core/checkpoint/convert.h"

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/dtype.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/write.h"
#include "core/run/error.h"
#include "core/run/files.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

at::Tensor cast(const std::string& name, const at::Tensor& values, at::ScalarType dtype) {
  at::Tensor out = values.to(dtype);
  if (!at::isfinite(out.to(at::kFloat)).all().item<bool>() &&
      at::isfinite(values.to(at::kDouble)).all().item<bool>()) {
    fail("tensor '{}': its values do not fit {}; choose a dtype with a larger range", name,
         dtype_name(dtype));
  }
  return out;
}

/// Cuts in file order, a new shard whenever the next tensor would not fit.
std::vector<std::vector<TensorSource>> cut(std::vector<TensorSource> tensors, uint64_t shard_size) {
  std::vector<std::vector<TensorSource>> shards(1);
  uint64_t bytes = 0;
  for (TensorSource& t : tensors) {
    if (shard_size > 0 && !shards.back().empty() && bytes + t.nbytes() > shard_size) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += t.nbytes();
    shards.back().push_back(std::move(t));
  }
  return shards;
}

void write_shards(const fs::path& folder, const std::vector<std::vector<TensorSource>>& shards,
                  const std::map<std::string, std::string>& metadata) {
  if (shards.size() == 1) {
    write_safetensors(folder / kWeightsFile, shards[0], metadata);
    return;
  }
  json map = json::object();
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors(folder / name, shards[i], metadata);
    for (const TensorSource& t : shards[i]) {
      map[t.name] = name;
      total += t.nbytes();
    }
  }
  write_json(folder / kIndexFile, {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
}

void refuse_other_formats(const fs::path& src) {
  std::string ending = src.extension().string();
  if (ending == ".gguf") {
    fail("{}: GGUF files are converted by: .venv/bin/python scripts/gguf_to_hf.py {} DST",
         src.string(), src.string());
  }
  if (!fs::is_directory(src)) {
    fail("{}: {}; expected a checkpoint folder with {} and {}", src.string(),
         fs::exists(src) ? "is a file" : "no such folder", kConfigFile, kWeightsFile);
  }
}

}  // namespace

void convert_checkpoint(const fs::path& src, const fs::path& dst, const ConvertOptions& options) {
  refuse_other_formats(src);
  Checkpoint checkpoint = Checkpoint::open(src);
  check_replaceable(dst, kConfigFile);
  if (options.dtype) torch_dtype_name(*options.dtype);  // throws unless it is one for weights

  std::vector<TensorSource> tensors;
  for (const TensorInfo& t : checkpoint.tensors()) {
    TensorSource source{t.name, t.dtype, t.shape,
                        [&, name = t.name] { return checkpoint.tensor(name); }};
    if (options.dtype && *options.dtype != t.dtype && at::isFloatingType(t.dtype)) {
      source.dtype = *options.dtype;
      source.load = [&, name = t.name] {
        return cast(name, checkpoint.tensor(name), *options.dtype);
      };
    }
    tensors.push_back(std::move(source));
  }
  json config = checkpoint.config();
  if (options.dtype) {
    // transformers 5 calls it dtype; older versions and older files torch_dtype.
    const char* key =
        config.contains("dtype") && !config.contains("torch_dtype") ? "dtype" : "torch_dtype";
    config[key] = torch_dtype_name(*options.dtype);
  }
  TemporaryFolder out(dst);
  write_shards(out.path(), cut(std::move(tensors), options.shard_size),
               checkpoint.files().front().metadata());
  copy_other_files(src, out.path());
  write_json(out.path() / kConfigFile, config);
  out.commit();
}

}  // namespace resurface
