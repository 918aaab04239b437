// --device and --dtype.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace resurface {

/// "cpu", "cuda", "cuda:1", or "auto": a GPU when this build can use one, else the CPU. Throws
/// ConfigError saying what is missing.
c10::Device parse_device(const std::string& text);

/// "fp32", "bf16", or "auto": bf16 on CUDA and on processors with AVX512-BF16 or AMX (elsewhere it
/// is many times slower than fp32), else fp32.
c10::ScalarType parse_compute_dtype(const std::string& text, c10::Device device);

/// Whether this processor multiplies bf16 matrices in hardware.
bool cpu_has_bf16();

}  // namespace resurface
