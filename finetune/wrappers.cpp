#include "finetune/wrappers.h"

#include <ATen/CPUGeneratorImpl.h>

namespace resurface {
namespace {

constexpr const char* kAverage = "average.";
constexpr const char* kCount = "average.count";

/// Changes weights in place, past autograd, so that the model sees that they have changed.
template <class Change>
void change(const NamedTensors& weights, Change&& each) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < weights.size(); ++i) each(i, weights[i].second);
}

}  // namespace

Wrap read_wrap(const Config& list) {
  Wrap wrap;
  const auto take = [&](auto& slot, const Config& entry, const Config& settings) {
    if (slot) entry.fail("is given twice");
    slot = read<typename std::decay_t<decltype(slot)>::value_type>(settings);
  };
  for (const Config& entry : list.items()) {
    const bool plain = entry.is_scalar();
    if (!plain && entry.size() != 1) {
      entry.fail("expected a wrapper's name, or a map from one name to its settings");
    }
    const std::string name = plain ? entry.string() : entry.keys().front();
    const Config settings = plain ? Config::parse("{}", "defaults") : entry[name];
    if (name == "sam") {
      take(wrap.sam, entry, settings);
    } else if (name == "rs") {
      take(wrap.rs, entry, settings);
    } else if (name == "average") {
      take(wrap.average, entry, settings);
    } else if (name == "lat") {
      take(wrap.lat, entry, settings);
    } else if (name == "tar") {
      take(wrap.tar, entry, settings);
      if (wrap.tar->rates.empty()) settings["rates"].fail("is empty");
    } else {
      std::vector<std::string> names;
      for (const Wrapper& known : kWrappers) names.emplace_back(known.name);
      entry.fail(fmt::format("unknown wrapper '{}'; valid: {}", name, fmt::join(names, ", ")));
    }
  }
  if (wrap.sam && wrap.rs) {
    list.fail("sam and rs both say where the forget gradient is taken; leave one out");
  }
  return wrap;
}

nlohmann::ordered_json to_json(const Wrap& wrap) {
  auto list = nlohmann::ordered_json::array();
  const auto add = [&](const char* name, const auto& settings) {
    if (settings) list.push_back({{name, to_json(*settings)}});
  };
  add("sam", wrap.sam);
  add("rs", wrap.rs);
  add("average", wrap.average);
  add("lat", wrap.lat);
  add("tar", wrap.tar);
  return list;
}

void WeightAverage::add(const NamedTensors& weights) {
  ++count_;
  if (mean_.empty()) {
    for (const auto& [name, value] : weights) mean_.emplace_back(name, at::zeros_like(value));
  }
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < weights.size(); ++i) {
    mean_[i].second.lerp_(weights[i].second, 1 / static_cast<double>(count_));
  }
}

void WeightAverage::apply(const NamedTensors& weights) const {
  if (count_ == 0) return;
  change(weights, [&](size_t i, const at::Tensor& value) { value.copy_(mean_[i].second); });
}

NamedTensors WeightAverage::state() const {
  NamedTensors all;
  if (count_ == 0) return all;
  for (const auto& [name, value] : mean_) all.emplace_back(kAverage + name, value);
  all.emplace_back(kCount, at::scalar_tensor(static_cast<double>(count_), at::kDouble));
  return all;
}

void WeightAverage::restore(const NamedTensors& state, at::Device device) {
  mean_.clear();
  for (const auto& [name, value] : state) {
    if (name == kCount) {
      count_ = std::llround(value.item<double>());
    } else if (name.starts_with(kAverage)) {
      mean_.emplace_back(name.substr(std::string(kAverage).size()), value.clone().to(device));
    }
  }
}

PutBack::PutBack(const NamedTensors& weights) {
  for (const auto& [name, value] : weights) pairs_.emplace_back(value, value.detach().clone());
}

PutBack::~PutBack() {
  const at::NoGradGuard no_grad;
  for (const auto& [value, copy] : pairs_) value.copy_(copy);
}

void step_uphill(const NamedTensors& weights, const std::vector<at::Tensor>& gradients,
                 double rho) {
  std::vector<at::Tensor> defined;
  for (const at::Tensor& gradient : gradients) {
    if (gradient.defined()) defined.push_back(gradient);
  }
  if (defined.empty()) return;
  const at::Tensor norm = at::stack(at::_foreach_norm(defined, 2)).norm();
  // Nowhere to go from a point without a slope.
  const at::Tensor scale = at::where(norm > 0, rho / norm, at::zeros_like(norm));
  change(weights, [&](size_t i, const at::Tensor& value) {
    if (gradients[i].defined()) value.add_(gradients[i] * scale);
  });
}

void add_noise(const NamedTensors& weights, double sigma, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  change(weights, [&](size_t, const at::Tensor& value) {
    value.add_(at::empty(value.sizes(), at::kFloat).normal_(0, 1, generator).to(value.device()),
               sigma);
  });
}

}  // namespace resurface
