// The element types of safetensors files and what they are called there.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace resurface {

/// "F32" -> at::kFloat; nothing for a name that safetensors or ATen does not have.
std::optional<at::ScalarType> dtype_from_name(std::string_view name);
/// at::kFloat -> "F32". Throws Error for a type that safetensors cannot hold.
std::string_view dtype_name(at::ScalarType dtype);
/// "F64, F32, ...", for error messages.
std::string known_dtypes();
/// What config.json's torch_dtype calls it: at::kFloat -> "float32".
std::string_view torch_dtype_name(at::ScalarType dtype);

}  // namespace resurface
