#include "core/checkpoint/inspect.h"

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/dtype.h"

namespace resurface {
namespace {

using nlohmann::ordered_json;

std::string architecture_of(const nlohmann::json& config) {
  if (auto list = config.find("architectures");
      list != config.end() && list->is_array() && !list->empty() && (*list)[0].is_string()) {
    return (*list)[0].get<std::string>();
  }
  auto type = config.find("model_type");
  return type != config.end() && type->is_string() ? type->get<std::string>() : "unknown";
}

}  // namespace

ordered_json inspect_checkpoint(const std::filesystem::path& folder) {
  Checkpoint checkpoint = Checkpoint::open(folder);
  struct Sum {
    uint64_t tensors = 0, parameters = 0, bytes = 0;
  };
  std::map<std::string, Sum, std::less<>> dtypes;
  Sum all;
  ordered_json tensors = ordered_json::array(), files = ordered_json::array();
  // As they are stored: of fp8 weights the fp8, their scales counted among the bytes alone.
  for (const TensorFile& file : checkpoint.files()) {
    std::string name = std::filesystem::relative(file.path(), checkpoint.folder()).string();
    files.push_back({{"name", name},
                     {"bytes", std::filesystem::file_size(file.path())},
                     {"tensors", file.tensors().size()}});
    for (const TensorInfo& t : file.tensors()) {
      const bool hidden = !checkpoint.contains(t.name);
      for (Sum* sum : {&all, &dtypes[std::string(dtype_name(t.dtype))]}) {
        sum->tensors += !hidden;
        sum->parameters += hidden ? 0 : static_cast<uint64_t>(c10::multiply_integers(t.shape));
        sum->bytes += t.nbytes();
      }
      if (hidden) continue;
      tensors.push_back({{"name", t.name},
                         {"dtype", dtype_name(t.dtype)},
                         {"shape", t.shape},
                         {"bytes", t.nbytes()},
                         {"file", name}});
    }
  }
  ordered_json by_dtype = ordered_json::object();
  for (const auto& [name, sum] : dtypes) {
    by_dtype[name] = {
        {"tensors", sum.tensors}, {"parameters", sum.parameters}, {"bytes", sum.bytes}};
  }
  ordered_json report = {{"architecture", architecture_of(checkpoint.config())},
                         {"parameters", all.parameters},
                         {"bytes", all.bytes},
                         {"content_hash", checkpoint.content_hash()},
                         {"config", checkpoint.config()},
                         {"dtypes", by_dtype},
                         {"files", files},
                         {"tensors", tensors}};
  if (!checkpoint.adapter().empty()) {
    report["adapter"] = checkpoint.adapter().string();
    report["base"] = checkpoint.folder().string();
  }
  return report;
}

}  // namespace resurface
