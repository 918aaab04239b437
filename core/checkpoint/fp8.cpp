#include "core/checkpoint/fp8.h"

#include <cmath>

#include "core/run/error.h"

namespace resurface {
namespace {

using nlohmann::json;

constexpr float kMost = 448;  // the largest e4m3

/// What to do about a quantisation that is not read.
std::string advice(const std::string& method) {
  if (method == "bitsandbytes" || method == "hqq" || method == "higgs") {
    return "load it in transformers, then model.dequantize().save_pretrained(FOLDER)";
  }
  if (method == "mxfp4") {
    return "load it in transformers with Mxfp4Config(dequantize=True), then "
           "save_pretrained(FOLDER)";
  }
  if (method == "compressed-tensors") {
    return "load it in transformers with CompressedTensorsConfig(run_compressed=False), then "
           "save_pretrained(FOLDER)";
  }
  return "use the checkpoint that it was made from, in fp32, bf16, fp16 or fp8 with block scales";
}

int64_t blocks(int64_t size, int64_t block) { return block == 0 ? 1 : (size + block - 1) / block; }

/// q and the scale of one block.
std::pair<at::Tensor, float> quantise_block(const at::Tensor& block, float largest,
                                            bool power_of_two, at::ScalarType scale_dtype) {
  if (largest == 0) return {at::zeros_like(block, at::ScalarType::Float8_e4m3fn), 1.0f};
  const float plain = std::max(largest / kMost, std::numeric_limits<float>::min());
  const auto power = static_cast<float>(std::exp2(std::ceil(std::log2(double{plain}))));
  // The neighbours and the power are for blocks that were quantised before: one of them gives the
  // values back exactly.
  std::vector<float> candidates = {plain, std::nextafter(plain, 0.0f),
                                   std::nextafter(plain, 2 * plain), power};
  if (power_of_two) candidates = {power};
  std::pair<at::Tensor, float> first;
  for (float scale : candidates) {
    scale = at::scalar_tensor(scale, at::kFloat).to(scale_dtype).to(at::kFloat).item<float>();
    const at::Tensor q = (block / scale).clamp_(-kMost, kMost).to(at::ScalarType::Float8_e4m3fn);
    if (at::equal(q.to(at::kFloat) * scale, block)) return {q, scale};
    if (!first.first.defined()) first = {q, scale};
  }
  return first;
}

}  // namespace

std::vector<int64_t> Fp8Format::scale_shape(at::IntArrayRef weight) const {
  return {blocks(weight[0], rows), blocks(weight[1], cols)};
}

std::pair<int64_t, int64_t> Fp8Format::block(at::IntArrayRef weight) const {
  return {rows == 0 ? weight[0] : std::min(rows, weight[0]),
          cols == 0 ? weight[1] : std::min(cols, weight[1])};
}

std::optional<Fp8Format> read_quantization(const json& config, const std::string& where) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || found->is_null()) return std::nullopt;
  const json& q = *found;
  if (!q.is_object()) fail("{}: quantization_config: expected an object, got {}", where, q.dump());
  const json named = q.value("quant_method", json("of no name"));
  const std::string method = named.is_string() ? named.get<std::string>() : named.dump();
  if (method != "fp8") {
    fail("{}: weights quantised by {} are not read; {}", where, method, advice(method));
  }
  for (const auto& [key, known] : {std::pair("fmt", "e4m3"), {"activation_scheme", "dynamic"}}) {
    if (const json value = q.value(key, json(known)); value != known) {
      fail("{}: quantization_config: {} = {} is not read; known: \"{}\"", where, key, value.dump(),
           known);
    }
  }
  Fp8Format format;
  format.power_of_two = q.value("scale_fmt", json()) == "ue8m0";
  if (auto block = q.find("weight_block_size"); block != q.end()) {
    if (block->is_null()) {
      format.rows = format.cols = 0;
    } else if (!block->is_array() || block->size() != 2 || !(*block)[0].is_number_unsigned() ||
               !(*block)[1].is_number_unsigned() || (*block)[0] == 0 || (*block)[1] == 0 ||
               (*block)[0] > (1 << 30) || (*block)[1] > (1 << 30)) {
      fail("{}: quantization_config: weight_block_size: expected [rows, columns], got {}", where,
           block->dump());
    } else {
      format.rows = (*block)[0].get<int64_t>();
      format.cols = (*block)[1].get<int64_t>();
    }
  }
  return format;
}

at::Tensor dequantise_fp8(const at::Tensor& q, const at::Tensor& scales, const Fp8Format& format) {
  at::Tensor out = q.to(at::kFloat);
  const auto [rows, cols] = format.block(q.sizes());
  const at::Tensor grid = scales.to(at::kFloat).view(format.scale_shape(q.sizes()));
  for (int64_t r = 0; r * rows < q.size(0); ++r) {
    const at::Tensor row = grid[r].repeat_interleave(cols).slice(0, 0, q.size(1));
    out.slice(0, r * rows, (r + 1) * rows).mul_(row);
  }
  return out;
}

std::pair<at::Tensor, at::Tensor> quantise_fp8(const std::string& name, const at::Tensor& weight,
                                               const Fp8Format& format,
                                               at::ScalarType scale_dtype) {
  const at::Tensor values = weight.detach().to(at::kCPU, at::kFloat).contiguous();
  const auto grid = format.scale_shape(values.sizes());
  const auto block_size = format.block(values.sizes());
  at::Tensor q = at::empty(values.sizes(), at::ScalarType::Float8_e4m3fn);
  at::Tensor scales = at::empty(grid, at::kFloat);
  for (int64_t r = 0; r < grid[0]; ++r) {
    for (int64_t c = 0; c < grid[1]; ++c) {
      const auto of = [&](const at::Tensor& t) {
        return t.slice(0, r * block_size.first, (r + 1) * block_size.first)
            .slice(1, c * block_size.second, (c + 1) * block_size.second);
      };
      const at::Tensor block = of(values);
      const float largest = block.numel() == 0 ? 0 : block.abs().max().item<float>();
      if (!std::isfinite(largest)) fail("tensor '{}' has values that are not finite", name);
      const auto [code, scale] = quantise_block(block, largest, format.power_of_two, scale_dtype);
      of(q).copy_(code);
      scales[r][c].fill_(scale);
    }
  }
  return {q, scales.to(scale_dtype)};
}

}  // namespace resurface
