#include "study/layered.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "eval/attack/data.h"
#include "finetune/gradients.h"
#include "unlearning/methods.h"

namespace resurface {

std::vector<Layer> forget_in_layers(const LayeredSettings& settings, const AnsweredTwice& answered,
                                    std::span<const Example> retain, const StudyInputs& inputs,
                                    const std::vector<std::string>& languages, uint64_t seed) {
  std::vector<Layer> layers;
  std::map<std::string, int64_t> fold_of;  // from 0; of one fold all are in it
  if (settings.folds > 1) {
    for (const Split& fold : fold_lines(inputs.forget.ids(), settings.folds, seed)) {
      for (const std::string& id : fold.test) fold_of[id] = std::ssize(layers);
      layers.emplace_back();
    }
  } else {
    layers.emplace_back();
  }
  const auto lines = inputs.examples(inputs.forget, Answer::line, languages);
  for (int64_t stage = 0; stage < std::ssize(layers); ++stage) {
    Layer& layer = layers[static_cast<size_t>(stage)];
    const auto due = [&](const Example& example) { return fold_of[example.tags[0]] <= stage; };
    for (size_t i = 0; i < answered.forget.size(); ++i) {
      if (!due(answered.forget[i])) continue;
      layer.forget.forget.push_back(answered.forget[i]);
      if (!answered.alternative.empty()) {
        layer.forget.alternative.push_back(answered.alternative[i]);
      }
    }
    layer.retain.assign(retain.begin(), retain.end());
    for (const Example& line : lines) {
      if (!due(line)) layer.retain.push_back(line);
    }
  }
  return layers;
}

void check_unlearning(const Removal& removal, const StudyInputs& inputs) {
  const UnlearningMethod* method = find_unlearning_method(removal.method);
  if (method == nullptr) return;
  const Config settings = removal.settings.value_or(Config::parse("{}", "defaults"));
  const Needs needs = method->needs(settings, inputs.model);
  with_wrappers({}, needs, removal.wrap, inputs.model);
  if (!removal.layered || removal.layered->folds == 1) return;
  if (!needs.retain) {
    throw ConfigError(fmt::format(
        "removal '{}': layers keep the later folds in the retain set, and '{}' has none; a method "
        "with a retain loss can go in layers",
        removal.name, removal.method));
  }
  const size_t lines = inputs.forget.ids().size();
  if (static_cast<size_t>(removal.layered->folds) > lines) {
    throw ConfigError(fmt::format("removal '{}': {} folds of {} lines", removal.name,
                                  removal.layered->folds, lines));
  }
}

void keep_layer(const std::filesystem::path& file, const Model& model, const Cost& cost) {
  const at::NoGradGuard no_grad;
  NamedTensors tensors;
  for (const auto& [name, value] : model.parameters()) {
    tensors.emplace_back(name, value.detach().cpu().contiguous());
  }
  write_safetensors(file, tensors, {{"format", "pt"}, {"cost", nlohmann::json(cost).dump()}});
}

Cost restore_layer(const std::filesystem::path& file, Model& model) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile stored(file);
  for (const auto& [name, value] : model.parameters()) value.copy_(stored.tensor(name));
  return nlohmann::json::parse(stored.metadata().at("cost")).get<Cost>();
}

}  // namespace resurface
