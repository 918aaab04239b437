// What `resurface edits list|show|apply|undo|merge` does, on folders and files.
//
// An applied edit is kept with the checkpoint: OUT/edits/0001.edit.safetensors is the edit and
// OUT/edits/0001.undo.safetensors the bytes that the touched tensors had before, with the content
// hashes of the checkpoint before and after. So undo restores every bit without the base at hand,
// last edit first.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "editing/editor.h"

namespace resurface {

/// One line an edit file: those in a folder (*.safetensors, not recursive), or those applied to a
/// checkpoint, in order of application. `guard` and `measures` of each come with it.
struct EditListing {
  std::filesystem::path path;
  std::string method, base_hash;
  std::vector<std::string> requests;    ///< ids
  std::vector<std::string> parameters;  ///< touched
  int64_t rank = 0;                     ///< summed over the parameters
  double relative_norm = 0;             ///< the largest of any request
};
/// Throws Error when `path` is neither a folder nor an edit file.
std::vector<EditListing> list_edits(const std::filesystem::path& path);
nlohmann::json to_json(const EditListing& listing);

/// The metadata of one edit file and the norms of its deltas.
nlohmann::json show_edit(const std::filesystem::path& file);

/// Writes the edited checkpoint: touched tensors in their own dtype, all others byte for byte.
/// Throws Error when the edit was made for another checkpoint (unless `force`) or `out` is not
/// empty.
void apply_edit_to_checkpoint(const std::filesystem::path& model, const std::filesystem::path& edit,
                              const std::filesystem::path& out, bool force = false);

/// Writes the checkpoint as it was before its last applied edit, exact to the bit. Returns the
/// content hash, which equals the one recorded on applying. Throws Error when no edit was applied,
/// or the checkpoint has changed since (unless `force`; it is then not the old one and nothing is
/// promised).
std::string undo_last_edit(const std::filesystem::path& model, const std::filesystem::path& out,
                           bool force = false);

/// merge_edits on files.
void merge_edit_files(const std::vector<std::filesystem::path>& files,
                      const std::filesystem::path& out, bool force = false);

}  // namespace resurface
