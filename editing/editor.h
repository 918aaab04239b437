// Editors: functions of (settings, model, requests, statistics) giving low-rank deltas. An editor never
// writes to the model: one `apply` does, and undo, listing, merging, norms and reports follow from that.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "core/text/tokenizer.h"

namespace resurface {

/// "{prompt}" must contain `subject`; the model should continue it with `target`.
struct EditRequest {
  std::string id;
  std::string prompt;   ///< rendered text, up to where the target begins
  std::string subject;
  std::string target;   ///< text; its ids are concatenated behind the prompt's
};

/// ΔW = left · right, added to `parameter` in its HF orientation.
struct Delta {
  std::string parameter;  ///< "model.layers.5.mlp.down_proj.weight"
  at::Tensor left;        ///< [out, r] fp32
  at::Tensor right;       ///< [r, in] fp32
};

/// What the guard measured of one edit.
struct EditMeasure {
  std::string id;
  int64_t layer = 0;
  double key_dot_u = 0;       ///< kᵀu: near zero, one edit can ruin the model
  double relative_norm = 0;   ///< ‖Δ‖_F / ‖W‖_F
  double target_loss = 0;     ///< mean NLL of the target at the end of the value optimisation
  int64_t steps = 0;
};

struct EditFile {
  std::string method;
  std::string base_hash;  ///< Model::content_hash of the checkpoint it was made for
  std::string settings;   ///< JSON
  std::vector<EditRequest> requests;
  std::vector<Delta> deltas;
  std::vector<EditMeasure> measures;
};

void write_edit_file(const std::filesystem::path& path, const EditFile& edit);
EditFile read_edit_file(const std::filesystem::path& path);

/// Adds the deltas to the model. Returns the original values of what it touched, for an undo that is
/// exact to the bit.
std::map<std::string, at::Tensor> apply_edit(Model& model, const EditFile& edit);

}  // namespace resurface
