// Weights in groups that share a scale.
#pragma once

#include <ATen/ATen.h>

namespace resurface {

/// x [R, C] cut along each row into groups of `size`, the last filled up with zeros; map turns
/// [groups, size] into the same shape, and the result is [R, C] again.
template <class Map>
at::Tensor by_groups(const at::Tensor& x, int64_t size, const Map& map) {
  const int64_t rows = x.size(0), columns = x.size(1);
  const int64_t padding = (size - columns % size) % size;
  const at::Tensor grouped = at::constant_pad_nd(x, {0, padding}).reshape({-1, size});
  return map(grouped).reshape({rows, columns + padding}).narrow(1, 0, columns);
}

/// The largest magnitude of each row, [R, 1]; 1 for a row of zeros, which any scale leaves zero.
inline at::Tensor largest(const at::Tensor& rows) {
  const at::Tensor most = rows.abs().amax(1, /*keepdim=*/true);
  return most.masked_fill(most == 0, 1);
}

}  // namespace resurface
