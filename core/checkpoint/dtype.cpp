#include "core/checkpoint/dtype.h"

#include <array>

#include "core/run/error.h"

namespace resurface {
namespace {

struct Dtype {
  at::ScalarType type;
  std::string_view name;
};

constexpr std::array kDtypes = {
    Dtype{at::kDouble, "F64"},
    Dtype{at::kFloat, "F32"},
    Dtype{at::kHalf, "F16"},
    Dtype{at::kBFloat16, "BF16"},
    Dtype{at::ScalarType::Float8_e4m3fn, "F8_E4M3"},
    Dtype{at::ScalarType::Float8_e5m2, "F8_E5M2"},
    Dtype{at::kLong, "I64"},
    Dtype{at::kInt, "I32"},
    Dtype{at::kShort, "I16"},
    Dtype{at::kChar, "I8"},
    Dtype{at::ScalarType::UInt64, "U64"},
    Dtype{at::ScalarType::UInt32, "U32"},
    Dtype{at::ScalarType::UInt16, "U16"},
    Dtype{at::kByte, "U8"},
    Dtype{at::kBool, "BOOL"},
};

}  // namespace

std::optional<at::ScalarType> dtype_from_name(std::string_view name) {
  for (const Dtype& d : kDtypes) {
    if (d.name == name) return d.type;
  }
  return std::nullopt;
}

std::string_view dtype_name(at::ScalarType dtype) {
  for (const Dtype& d : kDtypes) {
    if (d.type == dtype) return d.name;
  }
  fail("safetensors cannot hold tensors of type {}; it knows {}", at::toString(dtype),
       known_dtypes());
}

std::string known_dtypes() {
  std::string names;
  for (const Dtype& d : kDtypes) names += (names.empty() ? "" : ", ") + std::string(d.name);
  return names;
}

std::string_view torch_dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return "float64";
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    default:
      fail("weights of type {}: expected float64, float32, float16 or bfloat16",
           at::toString(dtype));
  }
}

}  // namespace resurface
