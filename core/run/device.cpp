#include "core/run/device.h"

#include <ATen/Context.h>

#include <charconv>

#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {

bool cpu_has_bf16() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16");
#else
  return false;
#endif
}

c10::Device parse_device(const std::string& text) {
  if (text == "cpu") return c10::kCPU;
  if (text == "auto") {
    return at::hasCUDA() && at::getNumGPUs() > 0 ? c10::Device(c10::kCUDA, 0)
                                                 : c10::Device(c10::kCPU);
  }
  int index = 0;
  bool cuda = text == "cuda";
  if (text.starts_with("cuda:")) {
    const char* end = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data() + 5, end, index);
    cuda = error == std::errc() && stop == end && index >= 0 && index < 128;
  }
  if (!cuda) {
    throw ConfigError(fmt::format("unknown device '{}'{} valid: cpu, cuda, cuda:<n>, auto", text,
                                  text == "gpu" ? "; did you mean 'cuda'?" : ";"));
  }
#ifndef RESURFACE_CUDA
  throw ConfigError(
      fmt::format("device '{}': this build has no CUDA; configure with `cmake --preset cuda` and a "
                  "CUDA wheel of torch, or use --device cpu",
                  text));
#else
  auto count = at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0;
  if (index >= count) {
    throw ConfigError(
        fmt::format("device '{}': this machine shows {} CUDA device{}; use --device {}", text,
                    count, count == 1 ? "" : "s", count ? "cuda:0" : "cpu"));
  }
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
#endif
}

c10::ScalarType parse_compute_dtype(const std::string& text, c10::Device device) {
  if (text == "fp32") return c10::kFloat;
  if (text == "bf16") return c10::kBFloat16;
  if (text == "auto") {
    return device.is_cuda() || (device.is_cpu() && cpu_has_bf16()) ? c10::kBFloat16 : c10::kFloat;
  }
  throw ConfigError(fmt::format("unknown dtype '{}'; valid: fp32, bf16, auto", text));
}

}  // namespace resurface
