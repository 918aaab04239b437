#include "finetune/lora.h"

#include <ATen/CPUGeneratorImpl.h>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/nearest.h"
#include "core/tensor/low_rank.h"

namespace resurface {
namespace {

/// The layers that have an adapter; an error where none has.
std::vector<Linear*> adapted(Model& model, const char* action) {
  auto linears = model.linears();
  std::erase_if(linears, [](const Linear* linear) { return !linear->lora; });
  if (linears.empty()) fail("{}: the model has no LoRA adapter attached", action);
  return linears;
}

at::Tensor lengths(const Linear& linear) {
  return row_norms(linear.weight, linear.lora->a, linear.lora->b, linear.lora->scale);
}

}  // namespace

double lora_scale(const LoraSettings& settings) {
  const auto rank = static_cast<double>(settings.rank);
  return settings.alpha / (settings.variant == "rslora" ? std::sqrt(rank) : rank);
}

void attach_lora(Model& model, const LoraSettings& settings, uint64_t seed) {
  model.require_grad(false);
  for (Linear* linear : model.linears()) {
    if (linear->lora) fail("attach_lora: {} has an adapter already", linear->name);
    const auto options = linear->weight.options().dtype(at::kFloat).requires_grad(false);
    linear->lora = LoraPair{.a = at::empty({settings.rank, linear->weight.size(1)}, options),
                            .b = at::empty({linear->weight.size(0), settings.rank}, options),
                            .scale = lora_scale(settings)};
    if (settings.variant == "dora") {
      linear->lora->magnitude = at::empty({linear->weight.size(0)}, options);
    }
    for (const auto& [suffix, tensor] : linear->lora->parts()) tensor.set_requires_grad(true);
  }
  reset_lora(model, seed);
}

void reset_lora(Model& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  // Drawn on the CPU, so that every device starts from the same adapters.
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (Linear* linear : adapted(model, "reset_lora")) {
    auto& [a, b, scale, magnitude] = *linear->lora;
    // Kaiming-uniform with slope sqrt(5), as the reference's nn.Linear: the bound is 1 / sqrt(in).
    const double bound = 1 / std::sqrt(static_cast<double>(a.size(1)));
    a.copy_(at::empty(a.sizes(), at::kFloat).uniform_(-bound, bound, generator));
    b.zero_();
    if (magnitude.defined()) magnitude.copy_(lengths(*linear));
  }
}

void detach_lora(Model& model) {
  for (Linear* linear : model.linears()) linear->lora.reset();
}

void merge_lora(Model& model) {
  const at::NoGradGuard no_grad;
  for (Linear* linear : adapted(model, "merge_lora")) {
    const auto& [a, b, scale, magnitude] = *linear->lora;
    const at::Tensor norms = magnitude.defined() ? lengths(*linear) : at::Tensor();
    linear->weight.add_(at::mm(b, a).to(linear->weight.scalar_type()), scale);
    if (magnitude.defined()) {
      linear->weight.mul_((magnitude / norms).unsqueeze(1).to(linear->weight.scalar_type()));
    }
  }
  detach_lora(model);
}

void export_lora(Model& model, const std::filesystem::path& folder, const std::string& base_model,
                 bool rslora) {
  std::vector<AdapterTensor> tensors;
  int64_t rank = 0;
  double scale = 1;
  for (const Linear* linear : adapted(model, "export_lora")) {
    const auto& [a, b, s, magnitude] = *linear->lora;
    rank = a.size(0);
    scale = s;
    tensors.push_back({linear->name, a.detach(), b.detach(),
                       magnitude.defined() ? magnitude.detach() : at::Tensor()});
  }
  const auto r = static_cast<double>(rank);
  write_adapter(folder, base_model, tensors, rank, scale * (rslora ? std::sqrt(r) : r), rslora);
}

void import_lora(Model& model, const std::filesystem::path& folder) {
  const auto linears = model.linears();
  std::vector<std::string> names;
  for (const Linear* linear : linears) names.push_back(linear->name);
  int64_t rank = 0;
  double alpha = 0;
  const auto tensors = read_adapter(folder, rank, alpha);
  for (const AdapterTensor& t : tensors) {
    const auto found = std::find(names.begin(), names.end(), t.linear);
    if (found == names.end()) {
      fail("{}: the model has no layer '{}'; the nearest is '{}'", folder.string(), t.linear,
           nearest(t.linear, names));
    }
    Linear& linear = *linears[static_cast<size_t>(found - names.begin())];
    if (linear.lora) fail("{}: {} has an adapter already", folder.string(), t.linear);
    if (t.b.size(0) != linear.weight.size(0) || t.a.size(1) != linear.weight.size(1)) {
      fail("{}: the adapter of {} goes from {} to {} features, the layer from {} to {}",
           folder.string(), t.linear, t.a.size(1), t.b.size(0), linear.weight.size(1),
           linear.weight.size(0));
    }
    // Copies: the file is mapped read-only.
    const auto own = [&](const at::Tensor& x) {
      return x.defined() ? x.to(model.device(), at::kFloat, false, /*copy=*/true) : x;
    };
    linear.lora = LoraPair{.a = own(t.a),
                           .b = own(t.b),
                           .scale = alpha / static_cast<double>(rank),
                           .magnitude = own(t.magnitude)};
  }
}

}  // namespace resurface
