#include "finetune/trainer_state.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/config.h"
#include "core/run/error.h"
#include "core/run/hash.h"
#include "core/run/key.h"

namespace resurface {
namespace {

/// How the optimiser calls its own tensors; all others were handed in.
bool of_optimizer(const std::string& name) {
  return name.starts_with("parameter.") || name.starts_with("moment");
}

/// What few methods need; empty for the others.
std::string rarer_needs(const Needs& needs) {
  std::string text;
  if (needs.forget_logits) text += "forget logits;";
  if (needs.retain_logits) text += "retain logits;";
  if (needs.retain_block >= 0) text += fmt::format("retain block {};", needs.retain_block);
  if (needs.frozen_blocks > 0) text += fmt::format("frozen {};", needs.frozen_blocks);
  if (!needs.trains.empty()) text += fmt::format("trains {};", fmt::join(needs.trains, " "));
  if (needs.dual) {
    text += fmt::format("dual {} {} {};", needs.dual->bound, needs.dual->rate, needs.dual->start);
  }
  if (needs.negate) text += fmt::format("negate {};", *needs.negate);
  return text;
}

}  // namespace

std::string run_fingerprint(const TrainData& data, const Needs& needs,
                            const TrainerSettings& settings, const Wrap& wrap, uint64_t seed) {
  Hasher hash;
  hash.add(fmt::format("{} seed {} retain {} reference {}", key_json(settings).dump(), seed,
                       needs.retain, needs.reference_logprob));
  hash.add({data.leave_out.data(), data.leave_out.size()});
  const auto add_ids = [&](const std::vector<int64_t>& ids) {
    hash.add(fmt::format("{}:", ids.size()));
    hash.add({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int64_t)});
  };
  const auto add_examples = [&](std::span<const Example> examples) {
    hash.add(fmt::format("{} examples", examples.size()));
    for (const Example& example : examples) {
      add_ids(example.prompt);
      add_ids(example.answer);
      hash.add(fmt::format("{}", example.weight));
    }
  };
  add_examples(data.forget);
  add_examples(needs.retain ? data.retain : std::span<const Example>{});
  if (needs.alternative) add_examples(data.alternative);
  hash.add(rarer_needs(needs));
  if (!wrap.empty()) hash.add(to_json(wrap).dump());
  return hash.hex();
}

void save_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                        const Optimizer& optimizer, const NamedTensors& kept,
                        const TrainResult& result) {
  NamedTensors tensors = optimizer.state();
  tensors.insert(tensors.end(), kept.begin(), kept.end());
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

NamedTensors load_trainer_state(const std::filesystem::path& path, const std::string& fingerprint,
                                Optimizer& optimizer, TrainResult& result) {
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
  NamedTensors kept;
  for (const TensorInfo& info : file.tensors()) {
    if (!of_optimizer(info.name)) kept.emplace_back(info.name, file.tensor(info.name).clone());
  }
  return kept;
}

}  // namespace resurface
