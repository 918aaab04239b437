// Editors: functions of (settings, model, requests, statistics) giving low-rank deltas. An editor
// never writes to the model: one `apply` does, and undo, listing, merging, norms and reports follow
// from that.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/text/tokenizer.h"

namespace resurface {

/// "{prompt}" must contain `subject`; the model should continue it with `target`.
struct EditRequest {
  std::string id;
  std::string prompt;  ///< rendered text, up to where the target begins
  std::string subject;
  std::string target;  ///< text; its ids are concatenated behind the prompt's

  /// Further rendered prompts (other phrasings of the question, prefixed prompts), each containing
  /// `subject`: the key is averaged and the value optimised over them and `prompt`.
  std::vector<std::string> contexts;
  /// The part of `prompt` in front of which generated contexts go (the question inside the user's
  /// turn); empty: the whole prompt. Unused when `contexts` are given.
  std::string question;
  std::string language = "en";  ///< "zh...": the Chinese KL prompt and context starts
};

/// ΔW = left · right, added to `parameter` in its HF orientation.
struct Delta {
  std::string parameter;  ///< "model.layers.5.mlp.down_proj.weight"
  at::Tensor left;        ///< [out, r] fp32
  at::Tensor right;       ///< [r, in] fp32
};

/// A change of full rank, [out, in]: the smaller side's identity is its other factor.
Delta dense_delta(std::string parameter, const at::Tensor& change);
/// Adds `more` to `sum`: factors of the same parameter are laid side by side, and multiplied out
/// where they would take more numbers than their product. Throws Error when shapes differ.
void add_deltas(std::vector<Delta>& sum, const std::vector<Delta>& more);

/// What the guard measured of one edit.
struct EditMeasure {
  std::string id;
  int64_t layer = 0;     ///< the last one edited
  double key_dot_u = 0;  ///< kᵀu there: near zero, one edit can ruin the model; 0 without keys
  double key_alignment = 1;  ///< cosine of k and the averaged key under C⁻¹: kᵀu free of scale
  double relative_norm = 0;  ///< ‖Δ‖_F / ‖W‖_F, the largest of its layers
  double target_loss = 0;    ///< mean NLL of the target at the end of the value optimisation
  int64_t steps = 0;
};

/// What the guard measured of the whole edit.
struct GuardReport {
  double relative_norm = 0;      ///< largest ‖ΔW‖_F / ‖W‖_F over the parameters
  double perplexity_before = 0;  ///< of the neutral examples; 0: none were given
  double perplexity_after = 0;
};

struct EditFile {
  std::string method;
  std::string base_hash;  ///< Model::content_hash of the checkpoint it was made for
  std::string settings;   ///< JSON
  std::vector<EditRequest> requests;
  std::vector<Delta> deltas;
  std::vector<EditMeasure> measures;
  std::optional<GuardReport> guard;
};

/// safetensors: `<parameter>.left`, `<parameter>.right`, and everything else as JSON in the
/// metadata.
void write_edit_file(const std::filesystem::path& path, const EditFile& edit);
/// An edit of the decoder's parameters as one of the tensors of the model's checkpoint, by their
/// names and as they lie (what an edit file holds), and back.
EditFile as_stored(const Model& model, EditFile edit);
EditFile as_held(const Model& model, EditFile edit);
/// Throws Error when the file is not an edit file or a factor's shape does not fit its partner's.
EditFile read_edit_file(const std::filesystem::path& path);

/// The metadata of an edit file for `edits show`: all but the factors, and each delta's shape.
nlohmann::json describe_edit(const EditFile& edit);

/// Adds the deltas to the model (summed in fp64, rounded once to the parameter's dtype). Returns
/// the original values of what it touched, for an undo that is exact to the bit. Throws Error when
/// the edit was made for another base checkpoint, unless `force`.
std::map<std::string, at::Tensor> apply_edit(Model& model, const EditFile& edit,
                                             bool force = false);

/// Puts back what apply_edit returned.
void undo_edit(Model& model, const std::map<std::string, at::Tensor>& originals);

/// W + left · right, in W's dtype.
at::Tensor edited(const at::Tensor& weight, const Delta& delta);

/// One edit whose effect is the sum of the given ones (add_deltas). Each was made on the same base,
/// none saw the others (sequential edits belong in one request list). Throws Error when the base
/// hashes differ, unless `force`.
EditFile merge_edits(const std::vector<EditFile>& edits, bool force = false);

}  // namespace resurface
