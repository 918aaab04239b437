#include "core/checkpoint/convert.h"

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/dtype.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/mapped_file.h"
#include "core/checkpoint/write.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/python.h"

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

const char* script_dtype(const ConvertOptions& options) {
  if (options.q8_0) return "q8_0";
  if (options.dtype == at::kHalf) return "fp16";
  if (options.dtype == at::kBFloat16) return "bf16";
  return "fp32";
}

bool is_gguf(const fs::path& path) {
  return fs::is_regular_file(path) &&
         (path.extension() == ".gguf" || MappedFile(path).bytes().starts_with("GGUF"));
}

/// The floating-point tensors in the asked dtype; without one, all as they are stored.
std::vector<TensorSource> sources_of(const Checkpoint& checkpoint, const ConvertOptions& options) {
  std::vector<TensorSource> sources;
  if (!options.dtype && checkpoint.adapter().empty()) {
    for (const TensorFile& file : checkpoint.files()) {
      for (const TensorInfo& t : file.tensors()) {
        sources.push_back({t.name, t.dtype, t.shape, [&] { return file.tensor(t.name); }});
      }
    }
    return sources;
  }
  if (!options.dtype && checkpoint.fp8()) {
    fail("{}: an adapter on fp8 weights; name the dtype of what it merges to (--dtype bf16)",
         checkpoint.adapter().string());
  }
  for (const TensorInfo& t : checkpoint.tensors()) {
    TensorSource source{t.name, t.dtype, t.shape,
                        [&, name = t.name] { return checkpoint.tensor(name); }};
    if (options.dtype && *options.dtype != t.dtype && at::isFloatingType(t.dtype)) {
      source.dtype = *options.dtype;
      source.load = [&, name = t.name] {
        return cast(name, checkpoint.tensor(name), *options.dtype);
      };
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

}  // namespace

void convert_checkpoint(const fs::path& src, const fs::path& dst, const ConvertOptions& options) {
  if (options.dtype) torch_dtype_name(*options.dtype);  // throws unless it is one for weights
  const bool to_gguf = dst.extension() == ".gguf";
  if (is_gguf(src)) {
    if (to_gguf || options.shard_size > 0 || options.q8_0 || !options.base.empty()) {
      fail(
          "{}: a GGUF file becomes a checkpoint folder in one file, in fp32, bf16 or fp16; convert "
          "that folder further",
          src.string());
    }
    run_script("gguf_to_hf.py", {src.string(), dst.string(), "--dtype", script_dtype(options)});
    return;
  }
  const Checkpoint checkpoint = Checkpoint::open(src, options.base);
  if (to_gguf) {
    const bool plain = checkpoint.adapter().empty() && !checkpoint.fp8() && fs::is_directory(src) &&
                       std::ranges::all_of(checkpoint.files(), &TensorFile::safetensors);
    // What only we read goes through a folder that the script reads, in the dtype it has.
    std::optional<TemporaryFolder> folder;
    if (!plain) {
      folder.emplace(dst.parent_path() / (dst.filename().string() + ".hf"));
      convert_checkpoint(src, folder->path() / "model",
                         {.dtype = checkpoint.fp8() ? std::optional(at::kFloat) : std::nullopt,
                          .base = options.base});
    }
    run_script("hf_to_gguf.py", {(plain ? src : folder->path() / "model").string(), dst.string(),
                                 "--dtype", script_dtype(options)});
    return;
  }
  if (options.q8_0) fail("{}: q8_0 is a type of GGUF files; name one (.gguf)", dst.string());
  check_replaceable(dst, kConfigFile);
  json config = checkpoint.config();
  if (options.dtype) {
    // transformers 5 calls it dtype; older versions and older files torch_dtype.
    const char* key =
        config.contains("dtype") && !config.contains("torch_dtype") ? "dtype" : "torch_dtype";
    config[key] = torch_dtype_name(*options.dtype);
    config.erase("quantization_config");  // fp8 is folded in
  }
  TemporaryFolder out(dst);
  auto metadata = checkpoint.files().front().metadata();
  if (metadata.empty()) metadata = {{"format", "pt"}};
  write_shards(out.path(), cut(sources_of(checkpoint, options), options.shard_size), metadata);
  copy_other_files(checkpoint.folder(), out.path());
  if (!checkpoint.adapter().empty()) copy_other_files(checkpoint.adapter(), out.path());
  write_json(out.path() / kConfigFile, config);
  out.commit();
}

}  // namespace resurface
