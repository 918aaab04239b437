// What the kernels of this folder share: conversions by bit arithmetic and an exponential without a
// call, so that the compiler turns loops over them into vector code; and the choice between the two
// types that they are written for.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/BFloat16.h>

#include <bit>
#include <cstdint>
#include <type_traits>

namespace resurface {

[[gnu::always_inline]] inline float load(float x) { return x; }
[[gnu::always_inline]] inline float load(at::BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16);
}
template <class T>
[[gnu::always_inline]] inline T store(float x) {
  if constexpr (std::is_same_v<T, at::BFloat16>) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;  // to nearest even
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return at::BFloat16(static_cast<uint16_t>(nan ? 0x7FC0u : rounded), at::BFloat16::from_bits());
  } else {
    return x;
  }
}

// e^x within 2 units in the last place (Cephes' expf: 2^n times a polynomial on [-ln2/2, ln2/2]);
// beyond +-87 it stays at the ends, where the sigmoid is 0 or 1 to fp32. NaN gives NaN.
[[gnu::always_inline]] inline float exponential(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 87.0f ? 87.0f : x);
  const float shifted =
      clamped * 1.44269504f + 12582912.0f;  // adds and takes away 1.5 * 2^23: rounds
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto power = (static_cast<int32_t>(std::bit_cast<uint32_t>(shifted)) << 23) + 0x3F800000;
  return p * std::bit_cast<float>(power);
}

/// Calls f with a value of the type that `type` names: bf16, or else fp32.
template <class F>
void dispatch(at::ScalarType type, F&& f) {
  if (type == at::kBFloat16) {
    f(at::BFloat16{});
  } else {
    f(float{});
  }
}

}  // namespace resurface
