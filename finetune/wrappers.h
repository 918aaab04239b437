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
#include "core/run/method_page.h"
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
  static constexpr MethodPage page = {
      .file = "finetune/wrappers.cpp",
      .formula = R"(g = g_f(\theta + e) + g_r(\theta), \quad
    e = \rho \, \frac{g_f(\theta)}{\|g_f(\theta)\|})",
      .symbols = R"(\rho: `rho`; 0 is the method itself
e: the step to where the forget loss is worst nearby, over all weights that train)",
      .cost =
          "Another forward and backward pass over the forget examples, 3 more a step (NPO with it: "
          "9; as published, with a second model in every step: 11), and a copy of the weights that "
          "train.",
      .traps =
          "The step uphill is along the forget gradient alone, of the whole step: with the retain "
          "gradient in it, or taken in each micro-batch, it is another point.",
  };
};

struct SmoothingSettings {
  int64_t samples = 3;
  double sigma = 1e-4;
  template <class V>
  void visit(V& v) {
    v("samples", samples, "perturbations a step", Range::at_least(1));
    v("sigma", sigma, "standard deviation of each weight's perturbation", Range::at_least(0));
  }
  static constexpr MethodPage page = {
      .file = "finetune/wrappers.cpp",
      .formula = R"(g = \frac{1}{k} \sum_{i=1}^{k} g_f(\theta + \sigma N_i) + g_r(\theta))",
      .symbols = R"(k: `samples`
\sigma: `sigma`; 0 is the method itself
N_i: standard normal, drawn anew in each step, the same on every device)",
      .cost =
          "k forward and backward passes over the forget examples instead of one, and a forward "
          "pass for the loss that is reported (NPO with 3: 13; as published, with a second model "
          "in every step: 15), and a copy of the weights that train.",
  };
};

struct AveragingSettings {
  double start = 0.75;
  template <class V>
  void visit(V& v) {
    v("start", start, "share of all steps after which the mean begins; the last step always counts",
      Range::between(0, 1));
  }
  static constexpr MethodPage page = {
      .file = "finetune/wrappers.cpp",
      .formula = R"(\bar\theta = \frac{1}{|S|} \sum_{i \in S} \theta_i)",
      .symbols = R"(\theta_i: the weights after step $i$
S: the steps after a share `start` of all, the last step always among them)",
      .cost = "No further pass; a running mean of the weights that train.",
      .traps = "Averaged over steps from before the forget loss had moved, it undoes the removal.",
  };
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
  const char* summary;
  const char* paper;
  std::vector<FieldInfo> (*describe)();
  MethodPage page;
};
template <class Settings>
constexpr Wrapper wrapper(const char* name, const char* summary, const char* paper) {
  return {name, summary, paper, [] { return describe<Settings>(); }, page_of<Settings>()};
}
inline constexpr auto resilience_paper =
    "Fan et al. 2025, Towards LLM Unlearning Resilient to Relearning Attacks";
inline constexpr std::array<Wrapper, 5> kWrappers = {{
    wrapper<SamSettings>(
        "sam", "take the forget gradient where it is worst nearby (sharpness-aware minimisation)",
        resilience_paper),
    wrapper<SmoothingSettings>(
        "rs", "average the forget gradient over small random changes of the weights",
        resilience_paper),
    wrapper<AveragingSettings>("average", "end with the mean of the weights of the last steps",
                               resilience_paper),
    wrapper<LatSettings>(
        "lat",
        "take the forget loss where an adversary in the hidden states brings the answers back most",
        "Sheshadri et al. 2024, Latent Adversarial Training Improves Robustness to Persistent "
        "Harmful Behaviors in LLMs"),
    wrapper<TarSettings>(
        "tar", "attack the weights before each step, and add what would make the attack fail",
        "Tamirisa et al. 2024, Tamper-Resistant Safeguards for Open-Weight LLMs"),
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
