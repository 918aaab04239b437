// Where a model's parameters lie in the checkpoints of its family.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "core/model/config.h"

namespace resurface {

/// Where a parameter of ours lies in a checkpoint: in the tensor `name`, and of that (turned to
/// [out, in] when it is stored as [in, out]) rows begin .. begin + rows - 1 of each of `groups`
/// equal groups of rows.
struct Place {
  std::string name;
  bool transposed = false;
  int64_t groups = 1;
  int64_t begin = 0;
  int64_t rows = 0;  ///< 0: all of them

  /// That part of the stored tensor, a view: [groups, rows, ...], or the whole as it is.
  at::Tensor of(const at::Tensor& stored) const;
  /// A parameter in the same shape.
  at::Tensor shaped(const at::Tensor& parameter) const;
};

Place place_of(const ModelConfig& config, const std::string& parameter);

}  // namespace resurface
