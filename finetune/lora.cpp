#include "finetune/lora.h"

#include <ATen/CPUGeneratorImpl.h>

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"

namespace resurface {
namespace {

/// Linear::lora of every layer, or an error that says what is missing.
std::vector<Linear*> adapted(Model& model, const char* action) {
  auto linears = model.linears();
  for (const Linear* linear : linears) {
    if (!linear->lora) fail("{}: {} has no LoRA adapter attached", action, linear->name);
  }
  return linears;
}

}  // namespace

void attach_lora(Model& model, const LoraSettings& settings, uint64_t seed) {
  model.require_grad(false);
  for (Linear* linear : model.linears()) {
    if (linear->lora) fail("attach_lora: {} has an adapter already", linear->name);
    const auto options = linear->weight.options().dtype(at::kFloat).requires_grad(false);
    linear->lora = LoraPair{.a = at::empty({settings.rank, linear->weight.size(1)}, options),
                            .b = at::empty({linear->weight.size(0), settings.rank}, options),
                            .scale = settings.alpha / static_cast<double>(settings.rank)};
    linear->lora->a.set_requires_grad(true);
    linear->lora->b.set_requires_grad(true);
  }
  reset_lora(model, seed);
}

void reset_lora(Model& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  // Drawn on the CPU, so that every device starts from the same adapters.
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (Linear* linear : adapted(model, "reset_lora")) {
    auto& [a, b, scale] = *linear->lora;
    // Kaiming-uniform with slope sqrt(5), as the reference's nn.Linear: the bound is 1 / sqrt(in).
    const double bound = 1 / std::sqrt(static_cast<double>(a.size(1)));
    a.copy_(at::empty(a.sizes(), at::kFloat).uniform_(-bound, bound, generator));
    b.zero_();
  }
}

void detach_lora(Model& model) {
  for (Linear* linear : model.linears()) linear->lora.reset();
}

void merge_lora(Model& model) {
  const at::NoGradGuard no_grad;
  for (Linear* linear : adapted(model, "merge_lora")) {
    const auto& [a, b, scale] = *linear->lora;
    linear->weight.add_(at::mm(b, a).to(linear->weight.scalar_type()), scale);
  }
  detach_lora(model);
}

void export_lora(Model& model, const std::filesystem::path& folder, const std::string& base_model) {
  std::vector<AdapterTensor> tensors;
  int64_t rank = 0;
  double scale = 1;
  for (const Linear* linear : adapted(model, "export_lora")) {
    rank = linear->lora->a.size(0);
    scale = linear->lora->scale;
    tensors.push_back({linear->name, linear->lora->a.detach(), linear->lora->b.detach()});
  }
  write_adapter(folder, base_model, tensors, rank, scale * static_cast<double>(rank));
}

}  // namespace resurface
