// What something cost: arithmetic, tokens, seconds, memory.
#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace resurface {

struct Cost {
  double flops = 0;
  int64_t tokens = 0;
  double seconds = 0;
  int64_t peak_bytes = 0;  ///< of the process on the CPU, of the caching allocator on CUDA

  /// One after the other: sums, and the larger peak.
  Cost& operator+=(const Cost& other);
};

void to_json(nlohmann::json& json, const Cost& cost);
void to_json(nlohmann::ordered_json& json, const Cost& cost);
void from_json(const nlohmann::json& json, Cost& cost);

/// Seconds since it was made.
class Timer {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// The most memory held since the last reset: VmHWM on the CPU, the allocator's peak on CUDA.
/// Bytes.
int64_t peak_memory(c10::Device device = c10::kCPU);
/// Starts the peak anew from what is held now. False where the kernel does not allow it; the peak
/// is then that of the whole process.
bool reset_peak_memory(c10::Device device = c10::kCPU);

}  // namespace resurface
