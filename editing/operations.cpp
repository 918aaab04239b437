#include "editing/operations.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

constexpr auto undo_format = "resurface-undo";
constexpr auto edit_suffix = ".edit.safetensors";
constexpr auto undo_suffix = ".undo.safetensors";

fs::path applied_file(const fs::path& model, size_t number, const char* suffix) {
  return model / "edits" / fmt::format("{:04}{}", number, suffix);
}

/// How many edits a checkpoint carries; they are numbered from 1.
size_t applied_edits(const fs::path& model) {
  size_t count = 0;
  while (fs::exists(applied_file(model, count + 1, edit_suffix))) ++count;
  return count;
}

void require_empty(const fs::path& out) {
  if (fs::exists(out) && !(fs::is_directory(out) && fs::is_empty(out))) {
    fail("{} exists already and is not an empty folder", out.string());
  }
}

bool is_edit_file(const fs::path& path) {
  const SafetensorsFile file(path);
  const auto found = file.metadata().find("format");
  return found != file.metadata().end() && found->second == "resurface-edit";
}

/// The sidecars of the first `count` edits go with the new folder, later ones do not.
void copy_sidecars(const fs::path& from, const fs::path& to, size_t count) {
  fs::remove_all(to / "edits");
  for (size_t number = 1; number <= count; ++number) {
    for (const auto* suffix : {edit_suffix, undo_suffix}) {
      fs::create_directories(to / "edits");
      fs::copy_file(applied_file(from, number, suffix), applied_file(to, number, suffix));
    }
  }
}

double largest_norm(const EditFile& edit) {
  double norm = 0;
  for (const auto& measure : edit.measures) norm = std::max(norm, measure.relative_norm);
  return norm;
}

}  // namespace

std::vector<EditListing> list_edits(const fs::path& path) {
  std::vector<fs::path> files;
  if (fs::is_regular_file(path)) {
    files.push_back(path);
  } else if (fs::is_directory(path)) {
    const auto folder = fs::exists(path / "config.json") ? path / "edits" : path;
    if (fs::exists(folder)) {
      for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() == ".safetensors" && is_edit_file(entry.path())) {
          files.push_back(entry.path());
        }
      }
    }
    std::sort(files.begin(), files.end());
  } else {
    fail("{}: expected an edit file, a folder of them or a checkpoint", path.string());
  }
  std::vector<EditListing> listings;
  for (const auto& file : files) {
    const auto edit = read_edit_file(file);
    EditListing listing{file, edit.method, edit.base_hash, {}, {}, 0, largest_norm(edit)};
    for (const auto& measure : edit.measures) listing.requests.push_back(measure.id);
    for (const auto& delta : edit.deltas) {
      listing.parameters.push_back(delta.parameter);
      listing.rank += delta.left.size(1);
    }
    listings.push_back(std::move(listing));
  }
  return listings;
}

nlohmann::json to_json(const EditListing& listing) {
  return {{"path", listing.path.string()},         {"method", listing.method},
          {"base_hash", listing.base_hash},        {"requests", listing.requests},
          {"parameters", listing.parameters},      {"rank", listing.rank},
          {"relative_norm", listing.relative_norm}};
}

nlohmann::json show_edit(const fs::path& file) {
  const auto edit = read_edit_file(file);
  auto out = describe_edit(edit);
  for (size_t i = 0; i < edit.deltas.size(); ++i) {
    const auto& delta = edit.deltas[i];
    out["deltas"][i]["norm"] = delta.left.mm(delta.right).norm().item<double>();
  }
  return out;
}

void apply_edit_to_checkpoint(const fs::path& model, const fs::path& edit_path, const fs::path& out,
                              bool force) {
  require_empty(out);
  const auto edit = read_edit_file(edit_path);
  const auto base = Checkpoint::open(model);
  const auto before = base.content_hash();
  // An edit records the hash of the weights as the model held them, in fp32 as a rule, whatever
  // dtype the checkpoint keeps.
  if (!force && edit.base_hash != before) {
    const auto loaded = Model::load(model).content_hash();
    if (edit.base_hash != loaded) {
      fail("{} was made for a model with hash {}, {} has {}; force applies it anyway",
           edit_path.string(), edit.base_hash, model.string(), loaded);
    }
  }
  std::map<std::string, at::Tensor> originals, changed;
  for (const auto& delta : edit.deltas) {
    if (!changed.contains(delta.parameter)) {
      originals[delta.parameter] = base.tensor(delta.parameter);
      changed[delta.parameter] = originals[delta.parameter];
    }
    changed[delta.parameter] = edited(changed[delta.parameter], delta);
  }
  base.save_with(out, changed);
  const size_t number = applied_edits(model) + 1;
  copy_sidecars(model, out, number - 1);
  fs::create_directories(out / "edits");
  const auto after = Checkpoint::open(out).content_hash();
  write_safetensors(applied_file(out, number, undo_suffix), {originals.begin(), originals.end()},
                    {{"format", undo_format}, {"before", before}, {"after", after}});
  write_edit_file(applied_file(out, number, edit_suffix), edit);
}

std::string undo_last_edit(const fs::path& model, const fs::path& out, bool force) {
  require_empty(out);
  const size_t number = applied_edits(model);
  if (number == 0) fail("{}: no edit was applied to this checkpoint", model.string());
  const auto current = Checkpoint::open(model);
  const SafetensorsFile undo(applied_file(model, number, undo_suffix));
  const auto recorded = [&](const std::string& key) {
    const auto found = undo.metadata().find(key);
    if (found == undo.metadata().end()) {
      fail("{}: its metadata have no '{}'", undo.path().string(), key);
    }
    return found->second;
  };
  if (!force && current.content_hash() != recorded("after")) {
    fail("{} has changed since its last edit was applied: its hash is {}, {} was recorded",
         model.string(), current.content_hash(), recorded("after"));
  }
  std::map<std::string, at::Tensor> originals;
  for (const auto& info : undo.tensors()) originals[info.name] = undo.tensor(info.name);
  current.save_with(out, originals);
  copy_sidecars(model, out, number - 1);
  const auto restored = Checkpoint::open(out).content_hash();
  if (!force && restored != recorded("before")) {
    fail("{}: undoing gave hash {}, expected {}", out.string(), restored, recorded("before"));
  }
  return restored;
}

void merge_edit_files(const std::vector<fs::path>& files, const fs::path& out, bool force) {
  std::vector<EditFile> edits;
  for (const auto& file : files) edits.push_back(read_edit_file(file));
  write_edit_file(out, merge_edits(edits, force));
}

}  // namespace resurface
