#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "editing/editor.h"

namespace resurface {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(EditRequest, id, prompt, subject, target, contexts,
                                                question, language)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EditMeasure, id, layer, key_dot_u, key_alignment, relative_norm,
                                   target_loss, steps)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GuardReport, relative_norm, perplexity_before, perplexity_after)

namespace {

constexpr auto format_name = "resurface-edit";

void check_shapes(const std::string& where, const Delta& delta) {
  if (delta.left.dim() != 2 || delta.right.dim() != 2 ||
      delta.left.size(1) != delta.right.size(0)) {
    fail("{}: factors of '{}' have shapes [{}] and [{}], expected [out, r] and [r, in]", where,
         delta.parameter, fmt::join(delta.left.sizes(), ", "),
         fmt::join(delta.right.sizes(), ", "));
  }
}

}  // namespace

void write_edit_file(const std::filesystem::path& path, const EditFile& edit) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& delta : edit.deltas) {
    check_shapes(path.string(), delta);
    tensors.emplace_back(delta.parameter + ".left", delta.left.cpu().contiguous());
    tensors.emplace_back(delta.parameter + ".right", delta.right.cpu().contiguous());
  }
  std::map<std::string, std::string> metadata = {
      {"format", format_name},
      {"method", edit.method},
      {"base_hash", edit.base_hash},
      {"settings", edit.settings},
      {"requests", nlohmann::json(edit.requests).dump()},
      {"measures", nlohmann::json(edit.measures).dump()}};
  if (edit.guard) metadata["guard"] = nlohmann::json(*edit.guard).dump();
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  write_safetensors(path, tensors, metadata);
}

EditFile read_edit_file(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto& metadata = file.metadata();
  const auto text = [&](const std::string& key) {
    const auto found = metadata.find(key);
    if (found == metadata.end()) fail("{}: its metadata have no '{}'", path.string(), key);
    return found->second;
  };
  if (!metadata.contains("format") || metadata.at("format") != format_name) {
    fail("{}: this is no edit file (its metadata do not say format = {})", path.string(),
         format_name);
  }
  EditFile edit;
  edit.method = text("method");
  edit.base_hash = text("base_hash");
  edit.settings = text("settings");
  try {
    edit.requests = nlohmann::json::parse(text("requests")).get<std::vector<EditRequest>>();
    edit.measures = nlohmann::json::parse(text("measures")).get<std::vector<EditMeasure>>();
    if (metadata.contains("guard")) {
      edit.guard = nlohmann::json::parse(text("guard")).get<GuardReport>();
    }
  } catch (const nlohmann::json::exception& error) {
    fail("{}: its metadata cannot be read: {}", path.string(), error.what());
  }
  for (const auto& info : file.tensors()) {
    const std::string suffix = ".left";
    if (!info.name.ends_with(suffix)) continue;
    const auto parameter = info.name.substr(0, info.name.size() - suffix.size());
    edit.deltas.push_back(
        {parameter, file.tensor(info.name).clone(), file.tensor(parameter + ".right").clone()});
    check_shapes(path.string(), edit.deltas.back());
  }
  if (file.tensors().size() != 2 * edit.deltas.size()) {
    fail("{}: expected a .left and a .right for each parameter, got {} tensors and {} .left",
         path.string(), file.tensors().size(), edit.deltas.size());
  }
  return edit;
}

namespace {

void turn(Delta& delta) {
  const at::Tensor left = delta.left;
  delta.left = delta.right.t().contiguous();
  delta.right = left.t().contiguous();
}

}  // namespace

EditFile as_stored(const Model& model, EditFile edit) {
  for (Delta& delta : edit.deltas) {
    const Place place = model.place(delta.parameter);
    if (place.rows > 0) {
      fail("'{}' is a part of '{}': no edit file is written of parts", delta.parameter, place.name);
    }
    if (place.transposed) turn(delta);
    delta.parameter = place.name;
  }
  return edit;
}

EditFile as_held(const Model& model, EditFile edit) {
  for (Delta& delta : edit.deltas) {
    for (const auto& [name, value] : model.parameters()) {
      const Place place = model.place(name);
      if (place.name != delta.parameter) continue;
      if (place.rows > 0) {
        fail("'{}' holds several parameters of the model: no edit of it is read", place.name);
      }
      if (place.transposed) turn(delta);
      delta.parameter = name;
      break;
    }
  }
  return edit;
}

nlohmann::json describe_edit(const EditFile& edit) {
  nlohmann::json out = {{"method", edit.method},
                        {"base_hash", edit.base_hash},
                        {"settings", nlohmann::json::parse(edit.settings, nullptr, false)},
                        {"requests", edit.requests},
                        {"measures", edit.measures},
                        {"deltas", nlohmann::json::array()}};
  if (edit.guard) out["guard"] = *edit.guard;
  for (const auto& delta : edit.deltas) {
    out["deltas"].push_back({{"parameter", delta.parameter},
                             {"rank", delta.left.size(1)},
                             {"shape", {delta.left.size(0), delta.right.size(1)}}});
  }
  return out;
}

at::Tensor edited(const at::Tensor& weight, const Delta& delta) {
  if (weight.dim() != 2 || weight.size(0) != delta.left.size(0) ||
      weight.size(1) != delta.right.size(1)) {
    fail("the edit of '{}' is for shape [{}, {}], the parameter has [{}]", delta.parameter,
         delta.left.size(0), delta.right.size(1), fmt::join(weight.sizes(), ", "));
  }
  const auto wide = [&](const at::Tensor& x) {
    return x.detach().to(weight.device(), at::kDouble);
  };
  return at::addmm(wide(weight), wide(delta.left), wide(delta.right)).to(weight.scalar_type());
}

std::map<std::string, at::Tensor> apply_edit(Model& model, const EditFile& edit, bool force) {
  if (!force) {
    const auto hash = model.content_hash();
    if (hash != edit.base_hash) {
      fail("the edit was made for a model with hash {}, this one has {}; force applies it anyway",
           edit.base_hash, hash);
    }
  }
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> originals, changed;
  for (const auto& delta : edit.deltas) {  // all computed before any is written
    const auto weight = model.parameter(delta.parameter);
    originals.emplace(delta.parameter, weight.detach().clone());
    const auto earlier = changed.find(delta.parameter);
    changed[delta.parameter] = edited(earlier == changed.end() ? weight : earlier->second, delta);
  }
  for (const auto& [name, value] : changed) model.parameter(name).copy_(value);
  return originals;
}

void undo_edit(Model& model, const std::map<std::string, at::Tensor>& originals) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, value] : originals) model.parameter(name).copy_(value);
}

Delta dense_delta(std::string parameter, const at::Tensor& change) {
  const auto full = change.to(at::kCPU, at::kFloat).contiguous();
  const bool wide = full.size(0) <= full.size(1);
  const auto identity = at::eye(wide ? full.size(0) : full.size(1));
  return wide ? Delta{std::move(parameter), identity, full}
              : Delta{std::move(parameter), full, identity};
}

void add_deltas(std::vector<Delta>& sum, const std::vector<Delta>& more) {
  for (const auto& delta : more) {
    const auto same = std::find_if(sum.begin(), sum.end(), [&](const Delta& known) {
      return known.parameter == delta.parameter;
    });
    if (same == sum.end()) {
      sum.push_back(delta);
      continue;
    }
    if (same->left.size(0) != delta.left.size(0) || same->right.size(1) != delta.right.size(1)) {
      fail("adding edits of '{}' with different shapes: [{}, {}] and [{}, {}]", delta.parameter,
           same->left.size(0), same->right.size(1), delta.left.size(0), delta.right.size(1));
    }
    const auto product = [](const Delta& factors) {
      return factors.left.to(at::kDouble).mm(factors.right.to(at::kDouble));
    };
    const int64_t rank = same->left.size(1) + delta.left.size(1);
    if (rank > std::min(same->left.size(0), same->right.size(1))) {
      *same = dense_delta(delta.parameter, product(*same) + product(delta));
    } else {
      same->left = at::cat({same->left, delta.left}, 1);
      same->right = at::cat({same->right, delta.right}, 0);
    }
  }
}

EditFile merge_edits(const std::vector<EditFile>& edits, bool force) {
  if (edits.empty()) fail("merging edits: none given");
  EditFile merged;
  merged.base_hash = edits.front().base_hash;
  auto settings = nlohmann::json::array();
  std::vector<std::string> methods;
  for (const auto& edit : edits) {
    if (edit.base_hash != merged.base_hash && !force) {
      fail("merging edits of different base models: {} and {}; force merges them anyway",
           merged.base_hash, edit.base_hash);
    }
    if (std::find(methods.begin(), methods.end(), edit.method) == methods.end()) {
      methods.push_back(edit.method);
    }
    settings.push_back({{"method", edit.method},
                        {"settings", nlohmann::json::parse(edit.settings, nullptr, false)}});
    merged.requests.insert(merged.requests.end(), edit.requests.begin(), edit.requests.end());
    merged.measures.insert(merged.measures.end(), edit.measures.begin(), edit.measures.end());
    add_deltas(merged.deltas, edit.deltas);
  }
  merged.method = fmt::format("{}", fmt::join(methods, "+"));
  merged.settings = settings.dump();
  return merged;
}

}  // namespace resurface
