#include "finetune/trainer_state.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/config.h"
#include "core/run/error.h"
#include "core/run/hash.h"

namespace resurface {
namespace {

constexpr const char* kReference = "reference_logprob";

}  // namespace

std::string run_fingerprint(const TrainData& data, const Needs& needs,
                            const TrainerSettings& settings, uint64_t seed) {
  Hasher hash;
  hash.add(fmt::format("{} seed {} retain {} reference {}", to_json(settings).dump(), seed,
                       needs.retain, needs.reference_logprob));
  hash.add({data.leave_out.data(), data.leave_out.size()});
  const auto add_ids = [&](const std::vector<int64_t>& ids) {
    hash.add(fmt::format("{}:", ids.size()));
    hash.add({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int64_t)});
  };
  for (const auto& examples :
       {data.forget, needs.retain ? data.retain : std::span<const Example>{}}) {
    hash.add(fmt::format("{} examples", examples.size()));
    for (const Example& example : examples) {
      add_ids(example.prompt);
      add_ids(example.answer);
      hash.add(fmt::format("{}", example.weight));
    }
  }
  return hash.hex();
}

void save_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                        const AdamW& optimizer, const at::Tensor& reference,
                        const TrainResult& result) {
  NamedTensors tensors = optimizer.state();
  if (reference.defined()) tensors.emplace_back(kReference, reference);
  for (auto& [name, tensor] : tensors) tensor = tensor.cpu();
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  write_safetensors(path, tensors,
                    {{"format", "pt"},
                     {"resurface.run", fingerprint},
                     {"resurface.steps", fmt::format("{}", result.steps)},
                     {"resurface.tokens", fmt::format("{}", result.tokens)},
                     {"resurface.flops", fmt::format("{}", result.flops)},
                     {"resurface.seconds", fmt::format("{}", result.seconds)},
                     {"resurface.last_loss", fmt::format("{}", result.last_loss)}});
}

void load_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                        AdamW& optimizer, at::Tensor& reference, TrainResult& result) {
  const SafetensorsFile file(path);
  const auto field = [&](const std::string& name) {
    const auto found = file.metadata().find("resurface." + name);
    if (found == file.metadata().end()) {
      fail("{}: no training state of ours (its metadata has no 'resurface.{}')", path.string(),
           name);
    }
    return found->second;
  };
  if (field("run") != fingerprint) {
    fail(
        "{}: this training state belongs to a run with other settings, data or seed (it has {}, "
        "this "
        "run is {}); remove the file to start over",
        path.string(), field("run"), fingerprint);
  }
  result.steps = std::stoll(field("steps"));
  result.tokens = std::stoll(field("tokens"));
  result.flops = std::stod(field("flops"));
  result.seconds = std::stod(field("seconds"));
  result.last_loss = std::stod(field("last_loss"));
  const at::NoGradGuard no_grad;
  optimizer.restore([&](const std::string& name) { return file.tensor(name); }, result.steps);
  if (file.contains(kReference)) reference = file.tensor(kReference).clone();
}

}  // namespace resurface
