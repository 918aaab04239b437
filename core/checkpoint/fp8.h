// Weights in fp8 (e4m3) with a scale a block, as DeepSeek-V3, Kimi-K2 and MiniMax-M2 ship them
// (DeepSeek-AI 2024, arXiv 2412.19437, section 3.3.2): W = q · s, with s in the tensor
// "<name>_scale_inv".
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace resurface {

inline constexpr std::string_view kScaleSuffix = "_scale_inv";

struct Fp8Format {
  int64_t rows = 128, cols = 128;  ///< of a block; 0: the whole tensor
  bool power_of_two = false;       ///< scales are powers of two (scale_fmt "ue8m0")

  /// [ceil(out / rows), ceil(in / cols)]: of a weight's scales.
  std::vector<int64_t> scale_shape(at::IntArrayRef weight) const;
  std::pair<int64_t, int64_t> block(at::IntArrayRef weight) const;  ///< at most the weight's size
};

/// What config.json's quantization_config says; nothing when there is none. Whatever is not fp8
/// with scales a block (GPTQ, AWQ, bitsandbytes, ...) is refused by name, with what to do.
std::optional<Fp8Format> read_quantization(const nlohmann::json& config, const std::string& where);

/// q [out, in] e4m3, scales as scale_shape says -> [out, in] fp32: the product of 4 and 24
/// significant bits rounds once, and what was quantised can be recovered from it. bf16 would round
/// away a part of the scale.
at::Tensor dequantise_fp8(const at::Tensor& q, const at::Tensor& scales, const Fp8Format& format);

/// [out, in] -> q and scales (in `scale_dtype`), the scale of a block its largest absolute value /
/// 448. Values that came out of dequantise_fp8 give it again, bit by bit, in every block whose
/// largest q was ±448. `name` is for the Error when a value is not finite.
std::pair<at::Tensor, at::Tensor> quantise_fp8(const std::string& name, const at::Tensor& weight,
                                               const Fp8Format& format, at::ScalarType scale_dtype);

}  // namespace resurface
