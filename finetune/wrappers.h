// Wrappers: changes of how a step's gradient or the final weights come about, that combine with any
// objective (Fan et al. 2025, "Towards LLM Unlearning Resilient to Relearning Attacks", section 5).
// With g_f the gradient of the forget side of the loss, g_r that of the retain side, theta the
// weights before the step:
//
//   sam      sharpness-aware minimisation: e = rho g_f / |g_f|; gradient g_f(theta + e) +
//   g_r(theta) rs       randomised smoothing: mean over k of g_f(theta + sigma N_k) + g_r(theta)
//   average  weight averaging: the result is the mean of the weights after the last steps
//   lat      g_f where an adversary disturbs the hidden states (finetune/lat.h)
//   tar      what an attacker would find after training for a while (finetune/tar.h)
//
// sam and rs hold one copy of the weights that train; sam costs another forward and backward over
// the forget examples a step, rs k of them (and a forward for the loss that is reported).
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/run/config.h"
#include "finetune/adamw.h"
#include "finetune/lat.h"
#include "finetune/tar.h"

namespace resurface {

struct SamSettings {
  double rho = 0.01;
  template <class V>
  void visit(V& v) {
    v("rho", rho, "length of the step uphill, over all weights that train", Range::at_least(0));
  }
};

struct SmoothingSettings {
  int64_t samples = 3;
  double sigma = 1e-4;
  template <class V>
  void visit(V& v) {
    v("samples", samples, "perturbations a step", Range::at_least(1));
    v("sigma", sigma, "standard deviation of each weight's perturbation", Range::at_least(0));
  }
};

struct AveragingSettings {
  double start = 0.75;
  template <class V>
  void visit(V& v) {
    v("start", start, "share of all steps after which the mean begins; the last step always counts",
      Range::between(0, 1));
  }
};

/// The wrappers of one training.
struct Wrap {
  std::optional<SamSettings> sam = {};
  std::optional<SmoothingSettings> rs = {};
  std::optional<AveragingSettings> average = {};
  std::optional<LatSettings> lat = {};
  std::optional<TarSettings> tar = {};

  bool perturbs() const { return sam || rs; }
  bool empty() const { return !sam && !rs && !average && !lat && !tar; }
};

struct Wrapper {
  const char* name;
  const char* paper;
  const char* summary;
  std::vector<FieldInfo> (*describe)();
};
inline constexpr const char* kWrapperPaper =
    "Fan et al., Towards LLM Unlearning Resilient to Relearning Attacks (2025)";
inline constexpr std::array<Wrapper, 5> kWrappers = {{
    {"sam", kWrapperPaper,
     "take the forget gradient where it is worst nearby (sharpness-aware minimisation)",
     [] { return describe<SamSettings>(); }},
    {"rs", kWrapperPaper, "average the forget gradient over small random changes of the weights",
     [] { return describe<SmoothingSettings>(); }},
    {"average", kWrapperPaper, "end with the mean of the weights of the last steps",
     [] { return describe<AveragingSettings>(); }},
    {"lat",
     "Sheshadri et al., Latent Adversarial Training Improves Robustness to Persistent Harmful "
     "Behaviors in LLMs (2024)",
     "take the forget loss where an adversary in the hidden states brings the answers back most",
     [] { return describe<LatSettings>(); }},
    {"tar", "Tamirisa et al., Tamper-Resistant Safeguards for Open-Weight LLMs (2024)",
     "attack the weights before each step, and add what would make the attack fail",
     [] { return describe<TarSettings>(); }},
}};

/// A list of names, or of maps from a name to its settings: [sam], [{sam: {rho: 0.02}}, average].
/// Throws ConfigError for an unknown name, one given twice, or sam beside rs.
Wrap read_wrap(const Config& list);
/// What read_wrap reads back, with every default; an empty list where nothing is wrapped.
nlohmann::ordered_json to_json(const Wrap& wrap);

/// The mean of the weights after several steps.
class WeightAverage {
 public:
  void add(const NamedTensors& weights);
  /// Overwrites the weights with their mean; nothing when none was added.
  void apply(const NamedTensors& weights) const;

  /// Under "average.NAME" and "average.count", for a run that goes on later.
  NamedTensors state() const;
  void restore(const NamedTensors& state, at::Device device);

 private:
  NamedTensors mean_;
  int64_t count_ = 0;
};

/// Keeps a copy of weights and puts it back, bit for bit, when it goes out of scope.
class PutBack {
 public:
  explicit PutBack(const NamedTensors& weights);
  PutBack(const PutBack&) = delete;
  PutBack& operator=(const PutBack&) = delete;
  ~PutBack();

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;  // weight, copy
};

/// theta += rho g / |g|, |g| over all; undefined gradients count as zero.
void step_uphill(const NamedTensors& weights, const std::vector<at::Tensor>& gradients, double rho);
/// theta += sigma N(0, 1), drawn on the CPU so that every device sees the same.
void add_noise(const NamedTensors& weights, double sigma, uint64_t seed);

}  // namespace resurface
