#include "eval/ways_back/ways.h"

#include <cmath>

namespace resurface {
namespace {

// What a way reaches. Interpolation means every parameter; the others mean the matrices of the
// blocks and leave embedding (a tied head with it), norms and biases alone, as quantised and pruned
// checkpoints do.
enum class Reach { linears, everything };

using Map = std::function<at::Tensor(const at::Tensor& weight, const at::Tensor& reference)>;

struct Target {
  std::string name;
  at::Tensor weight;
  at::Tensor reference;  // undefined when the way needs none
};

std::vector<Target> targets(Model& model, const Model* reference, Reach reach,
                            const WeightSelection& selection) {
  std::vector<Target> all;
  for (const Linear* linear : model.linears()) {
    if (linear->lora)
      fail("'{}' carries an adapter; merge it into the weights first", linear->name);
    if (reach == Reach::linears) all.push_back({linear->name + ".weight", linear->weight, {}});
  }
  if (reach == Reach::everything) {
    for (const auto& [name, tensor] : model.parameters()) all.push_back({name, tensor, {}});
  }
  for (const std::string& part : selection.only) {
    const auto has = [&](const Target& target) {
      return target.name.find(part) != std::string::npos;
    };
    if (std::none_of(all.begin(), all.end(), has)) {
      throw ConfigError(fmt::format(
          "only: no parameter in reach contains '{}'; there are {} of them, from '{}' to '{}'",
          part, all.size(), all.front().name, all.back().name));
    }
  }
  std::erase_if(all, [&](const Target& target) {
    const auto named = [&](const std::string& part) {
      return target.name.find(part) != std::string::npos;
    };
    return !selection.only.empty() &&
           std::none_of(selection.only.begin(), selection.only.end(), named);
  });
  if (reference == nullptr) return all;
  for (Target& target : all) {
    target.reference = reference->parameter(target.name);
    if (target.reference.sizes() != target.weight.sizes()) {
      fail("the reference's '{}' has shape [{}], the model's [{}]", target.name,
           fmt::join(target.reference.sizes(), ", "), fmt::join(target.weight.sizes(), ", "));
    }
  }
  return all;
}

at::Tensor at_least_float(const at::Tensor& tensor) {
  return tensor.detach().to(tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

WayReport transform(const std::vector<Target>& targets, const Map& map) {
  at::NoGradGuard no_grad;
  WayReport report;
  double changed = 0, norm = 0, zeroed = 0;
  for (const Target& target : targets) {
    const at::Tensor before = at_least_float(target.weight).clone();
    const at::Tensor reference = target.reference.defined()
                                     ? at_least_float(target.reference).to(before.device())
                                     : at::Tensor();
    at::Tensor weight = target.weight;
    weight.copy_(map(before, reference));
    // Of what is stored: a 16-bit parameter rounds once more.
    const at::Tensor after = at_least_float(weight);
    const double square = (after - before).to(at::kDouble).square().sum().item<double>();
    const double whole = before.to(at::kDouble).square().sum().item<double>();
    const auto zeros = static_cast<double>(((after == 0) & (before != 0)).sum().item<int64_t>());
    const int64_t elements = before.numel();
    report.weights.push_back({target.name, elements, square > 0 ? std::sqrt(square / whole) : 0,
                              zeros / static_cast<double>(elements)});
    report.elements += elements;
    changed += square;
    norm += whole;
    zeroed += zeros;
  }
  report.relative = changed > 0 ? std::sqrt(changed / norm) : 0;
  report.zeroed = zeroed / static_cast<double>(report.elements);
  return report;
}

template <class Settings>
WeightWay entry(
    const std::string& name, std::string paper, int year, bool needs_reference, Reach reach,
    std::function<at::Tensor(const Settings&, const at::Tensor&, const at::Tensor&)> map,
    std::string summary) {
  WeightWay way;
  way.name = name;
  way.paper = std::move(paper);
  way.year = year;
  way.needs_reference = needs_reference;
  way.summary = std::move(summary);
  way.run = [name, needs_reference, reach, map](const Config& config, Model& model,
                                                const Model* reference) {
    Settings settings;
    WeightSelection selection;
    read_into(config, settings, selection);
    if (needs_reference && reference == nullptr) {
      fail("'{}' needs a reference model: the one before the removal, or a base", name);
    }
    const auto all = targets(model, needs_reference ? reference : nullptr, reach, selection);
    return transform(all, [&](const at::Tensor& weight, const at::Tensor& other) {
      return map(settings, weight, other);
    });
  };
  way.resolve = [](const Config& config) {
    Settings settings;
    WeightSelection selection;
    read_into(config, settings, selection);
    auto json = to_json(settings);
    json.update(to_json(selection));
    return json;
  };
  way.describe = [] {
    auto fields = describe<Settings>();
    const auto common = describe<WeightSelection>();
    fields.insert(fields.end(), common.begin(), common.end());
    return fields;
  };
  return way;
}

template <class Settings>
WeightWay way(const std::string& name, std::string paper, int year,
              at::Tensor (*map)(const Settings&, const at::Tensor&), std::string summary) {
  return entry<Settings>(
      name, std::move(paper), year, false, Reach::linears,
      [map](const Settings& s, const at::Tensor& weight, const at::Tensor&) {
        return map(s, weight);
      },
      std::move(summary));
}

template <class Settings>
WeightWay way(const std::string& name, std::string paper, int year, Reach reach,
              at::Tensor (*map)(const Settings&, const at::Tensor&, const at::Tensor&),
              std::string summary) {
  return entry<Settings>(name, std::move(paper), year, true, reach, map, std::move(summary));
}

}  // namespace

const std::vector<WeightWay>& weight_ways() {
  // clang-format off
  static const std::vector<WeightWay> table = {
      way("rtn", "Zhang et al., Catastrophic Failure of LLM Unlearning via Quantization", 2024, rtn, "round each weight to the nearest of 2^bits - 1 even steps"),
      way("nf4", "Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs", 2023, nf4, "round each weight to one of 16 normal quantiles, scaled by its block's largest"),
      way("prune", "Han et al., Learning both Weights and Connections for Efficient Neural Networks", 2015, prune, "set the smallest weights of each matrix to zero"),
      way("drop_directions", "Meng et al., Locating and Editing Factual Associations in GPT (the edit undone)", 2022, Reach::linears, drop_directions, "drop the top singular directions of the difference from a reference"),
      way("bottom_rank", "Youssef et al., Tracing and Reversing Edits in LLMs", 2025, bottom_rank, "drop the top singular directions of the matrix itself"),
      way("interpolate", "Wortsman et al., Robust fine-tuning of zero-shot models", 2022, Reach::everything, interpolate, "go part of the way back to a reference, in every parameter"),
  };
  // clang-format on
  return table;
}

const WeightWay& weight_way(const std::string& name) {
  std::vector<std::string> names;
  for (const WeightWay& known : weight_ways()) {
    if (known.name == name) return known;
    names.push_back(known.name);
  }
  throw ConfigError(
      fmt::format("unknown way back '{}'; valid ways: {}", name, fmt::join(names, ", ")));
}

void to_json(nlohmann::ordered_json& json, const WayReport& report) {
  auto weights = nlohmann::ordered_json::array();
  for (const WeightChange& weight : report.weights) {
    weights.push_back({{"name", weight.name},
                       {"elements", weight.elements},
                       {"relative", weight.relative},
                       {"zeroed", weight.zeroed}});
  }
  json = {{"elements", report.elements},
          {"relative", report.relative},
          {"zeroed", report.zeroed},
          {"weights", std::move(weights)}};
}

}  // namespace resurface
