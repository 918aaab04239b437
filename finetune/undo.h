// UNDO: unlearn, noise, distil on outputs (Lee et al. 2025, "Distillation Robustifies Unlearning",
// section 5). A teacher, unlearned by some other method, is distilled into a student that has lost
// its way back:
//
//   student 0 = (1 - alpha) theta + alpha beta N      N Xavier-uniform for matrices, 0 for vectors
//   then forward KL(teacher || student) on forget, retain and other text, until retain is within 5%
//
// theta are the teacher's weights. Other students: the implanted model's weights (outputs matched,
// knowledge in place: the paper's section 3) and a fresh initialisation (its section 4).
// Differences to the published code: KL and retain count on answers' tokens alone, as everything
// here; "within" is of the retained tokens' probability (geometric mean), which is what an attack's
// utility is, too, where the code takes accuracy or, of loss, its ratio, which for answers known
// by heart has nothing to divide by. Of the teacher only what finetune/reference.h keeps is held.
#pragma once

#include <optional>

#include "core/run/method_page.h"
#include "finetune/trainer.h"

namespace resurface {

struct UndoSettings {
  std::string teacher;
  std::string student = "noise";
  double alpha = 0.6, beta = 0.1;
  std::optional<double> until = {};
  int64_t check_every = 20;
  template <class V>
  void visit(V& v) {
    v("teacher", teacher, "another removal of the study by its name, or oracle or implanted");
    v("student", student,
      "what learns from it. noise: its own weights mixed with noise; trained: the implanted model; "
      "fresh: a new initialisation",
      OneOf{{"noise", "trained", "fresh"}});
    v("alpha", alpha, "share of noise, the dial from cheap to robust; published: 0.1 to 0.8",
      Range::between(0, 1));
    v("beta", beta, "scale of the noise", Range::between(0, 1));
    v("until", until,
      "stop once the retained tokens' probability is within this share of the teacher's; 0: off. "
      "Default 0.05, and 0 for student trained, which is near it from the start",
      Range::between(0, 1));
    v("check_every", check_every, "steps between looks at it", Range::at_least(1));
  }
  static constexpr MethodPage page = {
      .file = "finetune/undo.cpp",
      .formula = R"(\theta_0 = (1 - \alpha)\,\theta_T + \alpha \beta N

L = \operatorname{mean}_{t \in F \cup R \cup D} \mathrm{KL}(p_T \,\|\, p))",
      .symbols = R"(\theta_T: the teacher's weights, another removal's
p_T: the teacher's distribution
\theta_0: where the student starts; with `student: trained` the implanted model, with `fresh` a new
  initialisation
N: Xavier-uniform for matrices, 0 for vectors
\alpha: `alpha`; 0 changes nothing
\beta: `beta`; with both 1 the student is a fresh initialisation
D: `data.text`)",
      .cost =
          "6 forward passes' worth a token of a batch at most; of the teacher only the last hidden "
          "states are kept. The report adds the teacher's own cost.",
      .needs = "A teacher: another removal of the study.",
      .traps =
          "A student matched to its teacher's outputs from the trained weights keeps what the "
          "outputs do not show. The noise is what robustness is bought with: at small alpha there "
          "is little of it.",
      .usage =
          "```yaml\nremove:\n  - method: npo\n  - method: undo\n    settings: {teacher: npo, "
          "alpha: 0.6}\n    train: {learning_rate: 1.0e-4, steps: 1000}\n```"};
  double bound() const { return until.value_or(student == "trained" ? 0 : 0.05); }
};

/// (1 - alpha) theta + alpha beta N, in place; drawn on the CPU so that every device sees the same.
/// alpha 0 leaves every bit, alpha = beta = 1 is Xavier's initialisation with vectors of zeros.
void add_undo_noise(Model& model, double alpha, double beta, uint64_t seed);

/// KL(teacher || student) on the training examples; the teacher is the model before training.
Loss distil(Model& model, const ForgetRetainBatch& batch);
inline const Needs distil_needs{.forget_logits = true};

/// All weights train: what a student needs.
inline bool trains_all(const TrainerSettings& training) {
  return training.reach == "full" && training.layers.empty() && training.modules == "all";
}

struct Distilled {
  TrainResult training;  ///< with the looks at the retain set in its FLOPs
  bool within = true;    ///< the bound was reached, or there is none
};

/// Turns the teacher into its student. `retain` is what "within" is measured on. `trained`: HF
/// folder of the weights that student "trained" starts from. Training is full and resumes from
/// hooks.state, with the teacher as the model; hooks.on_start is not to be set.
Distilled undo(Model& model, const UndoSettings& settings, std::span<const Example> examples,
               std::span<const Example> retain, const std::filesystem::path& trained,
               const TrainerSettings& training, uint64_t seed, TrainHooks hooks);

}  // namespace resurface
