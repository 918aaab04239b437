#include "finetune/lora.h"

#include <ATen/CPUGeneratorImpl.h>

#include "core/run/error.h"
#include "core/tensor/low_rank.h"

namespace resurface {
namespace {

at::Tensor lengths(const Linear& linear) {
  return row_norms(linear.weight, linear.lora->a, linear.lora->b, linear.lora->scale);
}

}  // namespace

std::vector<Linear*> adapted_layers(Model& model, const char* action) {
  auto linears = model.linears_and_routers();
  std::erase_if(linears, [](const Linear* linear) { return !linear->lora; });
  if (linears.empty()) fail("{}: the model has no LoRA adapter attached", action);
  return linears;
}

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
  for (Linear* linear : adapted_layers(model, "reset_lora")) {
    auto& [a, b, scale, magnitude] = *linear->lora;
    // Kaiming-uniform with slope sqrt(5), as the reference's nn.Linear: the bound is 1 / sqrt(in).
    const double bound = 1 / std::sqrt(static_cast<double>(a.size(1)));
    a.copy_(at::empty(a.sizes(), at::kFloat).uniform_(-bound, bound, generator));
    b.zero_();
    if (magnitude.defined()) magnitude.copy_(lengths(*linear));
  }
}

void detach_lora(Model& model) {
  for (Linear* linear : model.linears_and_routers()) linear->lora.reset();
}

void merge_lora(Model& model) {
  const at::NoGradGuard no_grad;
  for (Linear* linear : adapted_layers(model, "merge_lora")) {
    const auto& [a, b, scale, magnitude] = *linear->lora;
    const at::Tensor norms = magnitude.defined() ? lengths(*linear) : at::Tensor();
    linear->weight.add_(at::mm(b, a).to(linear->weight.scalar_type()), scale);
    if (magnitude.defined()) {
      linear->weight.mul_((magnitude / norms).unsqueeze(1).to(linear->weight.scalar_type()));
    }
  }
  detach_lora(model);
}

}  // namespace resurface
