// Adapters as peft's folders hold them: by the checkpoint's linear layers, several of ours in one
// where it holds them in one.
#include <cmath>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/nearest.h"
#include "finetune/lora.h"

namespace resurface {
namespace {

std::string without_weight(const std::string& name) {
  return name.substr(0, name.size() - std::string_view(".weight").size());
}

/// The adapters of all our linear layers that a checkpoint holds in one.
struct StoredAdapter {
  struct Part {
    Place place;
    const LoraPair* lora;
  };
  std::vector<Part> parts;

  int64_t rank() const {
    int64_t sum = 0;
    for (const Part& part : parts) sum += part.lora->a.size(0);
    return sum;
  }

  /// One pair of `rank`: the parts' A one below the other, their B in blocks, zeros elsewhere.
  AdapterTensor joined(const std::string& name, int64_t rank) const {
    int64_t rows = 0;
    for (const Part& part : parts) rows += part.lora->b.size(0);
    const LoraPair& first = *parts.front().lora;
    const int64_t in = first.a.size(1);
    AdapterTensor all{name, at::zeros({rank, in}, at::kFloat), at::zeros({rows, rank}, at::kFloat)};
    if (first.magnitude.defined()) all.magnitude = at::empty({rows}, at::kFloat);
    int64_t from = 0;
    for (const auto& [place, lora] : parts) {
      const int64_t r = lora->a.size(0);
      all.a.narrow(0, from, r).copy_(lora->a.detach());
      const at::Tensor b = lora->b.detach();
      Place at = place;
      at.transposed = false;
      at.of(all.b).narrow(-1, from, r).copy_(at.shaped(b));
      if (all.magnitude.defined()) at.of(all.magnitude).copy_(at.shaped(lora->magnitude.detach()));
      from += r;
    }
    return all;
  }
};

}  // namespace

void export_lora(Model& model, const std::filesystem::path& folder, const std::string& base_model,
                 bool rslora) {
  std::map<std::string, StoredAdapter> stored;  // by the checkpoint's linear layers
  std::vector<std::string> order;
  double scale = 1;
  for (const Linear* linear : adapted_layers(model, "export_lora")) {
    const Place place = place_of(model.config(), linear->name + ".weight");
    const std::string name = without_weight(place.name);
    if (!stored.contains(name)) order.push_back(name);
    stored[name].parts.push_back({place, &*linear->lora});
    scale = linear->lora->scale;
  }
  int64_t rank = 0;
  for (const auto& [name, adapter] : stored) rank = std::max(rank, adapter.rank());
  std::vector<AdapterTensor> tensors;
  for (const std::string& name : order) tensors.push_back(stored[name].joined(name, rank));
  const auto r = static_cast<double>(rank);
  write_adapter(folder, base_model, tensors, rank, scale * (rslora ? std::sqrt(r) : r), rslora);
}

void import_lora(Model& model, const std::filesystem::path& folder) {
  std::map<std::string, std::vector<std::pair<Linear*, Place>>> by_name;
  std::vector<std::string> names;
  for (Linear* linear : model.linears_and_routers()) {
    Place place = place_of(model.config(), linear->name + ".weight");
    place.transposed = false;  // an adapter's A and B lie the same way in every family
    const std::string name = without_weight(place.name);
    if (!by_name.contains(name)) names.push_back(name);
    by_name[name].emplace_back(linear, place);
  }
  int64_t rank = 0;
  double alpha = 0;
  const auto tensors = read_adapter(folder, rank, alpha);
  for (const AdapterTensor& t : tensors) {
    const auto found = by_name.find(t.linear);
    if (found == by_name.end()) {
      fail("{}: the model has no layer '{}'; the nearest is '{}'", folder.string(), t.linear,
           nearest(t.linear, names));
    }
    int64_t out = 0;
    for (const auto& [linear, place] : found->second) out += linear->weight.size(0);
    const int64_t in = found->second.front().first->weight.size(1);
    if (t.b.size(0) != out || t.a.size(1) != in) {
      fail("{}: the adapter of {} goes from {} to {} features, the layer from {} to {}",
           folder.string(), t.linear, t.a.size(1), t.b.size(0), in, out);
    }
    // Copies: the file is mapped read-only.
    const auto own = [&](const at::Tensor& x) {
      return x.defined() ? x.to(model.device(), at::kFloat, false, /*copy=*/true) : x;
    };
    for (const auto& [linear, place] : found->second) {
      if (linear->lora) fail("{}: {} has an adapter already", folder.string(), t.linear);
      const auto rows = [&](const at::Tensor& whole) {
        if (!whole.defined() || place.rows == 0) return whole;
        auto sizes = whole.sizes().vec();
        sizes[0] = linear->weight.size(0);
        return place.of(whole).reshape(sizes);
      };
      linear->lora = LoraPair{.a = own(t.a),
                              .b = own(rows(t.b)),
                              .scale = alpha / static_cast<double>(rank),
                              .magnitude = own(rows(t.magnitude))};
    }
  }
}

}  // namespace resurface
