#include "editing/site.h"

#include <set>

#include "core/run/error.h"
#include "editing/keys_values.h"

namespace resurface {
namespace {

using Chosen = std::map<int64_t, std::set<int64_t>>;  // by layer

/// Adds the experts that the requests' subjects choose in each of the layers.
void find_chosen(const Model& model, std::span<const EditExample> edits, Chosen& chosen) {
  const at::NoGradGuard no_grad;
  for (const auto group : groups_by_tokens(edits, ValueSettings{}.batch_tokens)) {
    std::vector<std::vector<int64_t>> prompts;  // up to the subject: what follows does not reach it
    std::vector<int64_t> ends;
    int64_t row = 0;
    for (const EditExample& edit : group) {
      for (const auto& [ids, subject] : edit.contexts) {
        prompts.emplace_back(ids.begin(), ids.begin() + subject + 1);
        row += subject + 1;
        ends.push_back(row - 1);
      }
    }
    if (prompts.empty()) continue;
    const at::Tensor rows = at::tensor(at::IntArrayRef(ends), at::kLong).to(model.device());
    HiddenOptions options{.last = chosen.rbegin()->first + 1, .stop_at_key = true};
    options.on_experts = [&](int64_t layer, const at::Tensor& experts) {
      const auto found = chosen.find(layer);
      if (found == chosen.end()) return;
      const at::Tensor used = experts.index_select(0, rows).flatten().cpu();
      found->second.insert(used.data_ptr<int64_t>(), used.data_ptr<int64_t>() + used.numel());
    };
    model.hidden(pack_sequences(prompts, model.device()), options);
  }
}

void check_width(const ModelConfig& config, const EditSite& site) {
  const int64_t width = key_width(config, site);
  if (width <= kWidestKey) return;
  const double gib = 4.0 * static_cast<double>(width * width) / (1 << 30);
  fail(
      "editing: in layer {} the requests' subjects choose {} of {} experts, which makes keys of {} "
      "columns, at most {} are edited together: their covariance would take {:.1f} GiB, and {:.1f} "
      "more while it is solved; edit fewer requests at once (`batch`, of ROME "
      "`sequential_values`), give them fewer prompts (`contexts`), or name another layer",
      site.layer, site.experts.size(), config.experts->count, width, kWidestKey, gib, 4 * gib);
}

}  // namespace

std::vector<EditSite> edited_sites(const Model& model, const std::vector<int64_t>& layers,
                                   std::span<const EditExample> edits) {
  Chosen chosen;
  for (const int64_t layer : layers) {
    if (model.config().key_width(layer) == 0) chosen[layer];
  }
  if (!chosen.empty()) find_chosen(model, edits, chosen);
  std::vector<EditSite> sites;
  for (const int64_t layer : layers) {
    const auto& experts = chosen[layer];
    sites.emplace_back(layer, std::vector<int64_t>(experts.begin(), experts.end()));
    check_width(model.config(), sites.back());
  }
  return sites;
}

EditSite edited_site(const Model& model, int64_t layer, std::span<const EditExample> edits) {
  return edited_sites(model, {layer}, edits).front();
}

int64_t key_width(const ModelConfig& config, const EditSite& site) {
  if (site.layer < 0 || site.layer >= config.layers) {
    fail("editing: layer {} asked, the model has layers 0 .. {}", site.layer, config.layers - 1);
  }
  const int64_t width = config.key_width(site.layer);
  if (width > 0 && site.experts.empty()) return width;
  if (width > 0) fail("editing: layer {} is edited without routed experts", to_string(site));
  if (site.experts.empty() || site.experts.front() < 0 ||
      site.experts.back() >= config.experts->count) {
    fail("editing: layer {} is edited at some of its routed experts 0 .. {}", to_string(site),
         config.experts->count - 1);
  }
  return std::ssize(site.experts) * config.experts->width;
}

std::vector<std::string> edited_parameters(const Model& model, const EditSite& site) {
  const Block& block = model.block(site.layer);
  if (site.experts.empty()) return {block.mlp.down.name + ".weight"};
  std::vector<std::string> names;
  for (const int64_t e : site.experts) {
    names.push_back(block.experts.at(static_cast<size_t>(e)).down.name + ".weight");
  }
  return names;
}

at::Tensor edited_weight(const Model& model, const EditSite& site) {
  std::vector<at::Tensor> weights;
  for (const auto& name : edited_parameters(model, site)) {
    weights.push_back(model.parameter(name).detach());
  }
  return weights.size() == 1 ? weights.front() : at::cat(weights, 1);
}

std::vector<std::pair<std::string, at::Tensor>> cut(const Model& model, const EditSite& site,
                                                    const at::Tensor& columns) {
  const auto names = edited_parameters(model, site);
  const auto pieces = columns.chunk(std::ssize(names), 1);
  std::vector<std::pair<std::string, at::Tensor>> all;
  for (size_t i = 0; i < names.size(); ++i) all.emplace_back(names[i], pieces[i].contiguous());
  return all;
}

at::Tensor keys_at(const EditSite& other, const EditSite& site, const at::Tensor& keys) {
  if (other == site) return keys;
  const int64_t width = keys.size(0) / std::ssize(site.experts);
  auto moved = at::zeros({std::ssize(other.experts) * width, keys.size(1)}, keys.options());
  for (int64_t i = 0; i < std::ssize(site.experts); ++i) {
    const auto same =
        std::find(other.experts.begin(), other.experts.end(), site.experts[static_cast<size_t>(i)]);
    if (same == other.experts.end()) continue;
    moved.narrow(0, (same - other.experts.begin()) * width, width)
        .copy_(keys.narrow(0, i * width, width));
  }
  return moved;
}

std::string to_string(const EditSite& site) {
  if (site.experts.empty()) return std::to_string(site.layer);
  return fmt::format("{} (experts {})", site.layer, fmt::join(site.experts, ", "));
}

}  // namespace resurface
