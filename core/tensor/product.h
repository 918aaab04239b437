// Products of small fp32 matrices, where a call into a library costs more than the arithmetic.
#pragma once

#include <cstdint>

namespace resurface {

inline constexpr int64_t kLanes = 16;
/// Sixteen floats, at any address; GCC splits it where the processor's registers are narrower.
using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));

inline int64_t whole_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// A matrix read one number at a time: entry (i, k) at data[i * row + k * column].
struct Strided {
  const float* data;
  int64_t row, column;
};

/// c (+)= a b for a tile of `rows` rows and `lanes` vectors of columns, sums kept in registers.
template <int rows, int lanes>
void tile(int64_t depth, const Strided& a, const float* b, int64_t ldb, float* c, int64_t ldc,
          bool add) {
  Lanes sum[rows][lanes];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < lanes; ++j) {
      sum[i][j] = add ? *reinterpret_cast<const Lanes*>(c + i * ldc + j * kLanes) : Lanes{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Lanes row[lanes];
#pragma GCC unroll 4
    for (int j = 0; j < lanes; ++j) {
      row[j] = *reinterpret_cast<const Lanes*>(b + k * ldb + j * kLanes);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const float x = a.data[i * a.row + k * a.column];
#pragma GCC unroll 4
      for (int j = 0; j < lanes; ++j) sum[i][j] += x * row[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < lanes; ++j) {
      *reinterpret_cast<Lanes*>(c + i * ldc + j * kLanes) = sum[i][j];
    }
  }
}

template <int rows>
void row_of_tiles(int64_t columns, int64_t depth, const Strided& a, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool add) {
  int64_t j = 0;
  for (; j + 4 * kLanes <= columns; j += 4 * kLanes) {
    tile<rows, 4>(depth, a, b + j, ldb, c + j, ldc, add);
  }
  switch ((columns - j) / kLanes) {
    case 1:
      tile<rows, 1>(depth, a, b + j, ldb, c + j, ldc, add);
      break;
    case 2:
      tile<rows, 2>(depth, a, b + j, ldb, c + j, ldc, add);
      break;
    case 3:
      tile<rows, 3>(depth, a, b + j, ldb, c + j, ldc, add);
      break;
    default:
      break;
  }
}

/// c [m, n] (+)= a [m, depth] b [depth, n]; b and c row-major, n a multiple of kLanes.
inline void product(int64_t m, int64_t n, int64_t depth, Strided a, const float* b, int64_t ldb,
                    float* c, int64_t ldc, bool add) {
  for (; m >= 6; m -= 6, a.data += 6 * a.row, c += 6 * ldc) {
    row_of_tiles<6>(n, depth, a, b, ldb, c, ldc, add);
  }
  switch (m) {
    case 1:
      row_of_tiles<1>(n, depth, a, b, ldb, c, ldc, add);
      break;
    case 2:
      row_of_tiles<2>(n, depth, a, b, ldb, c, ldc, add);
      break;
    case 3:
      row_of_tiles<3>(n, depth, a, b, ldb, c, ldc, add);
      break;
    case 4:
      row_of_tiles<4>(n, depth, a, b, ldb, c, ldc, add);
      break;
    case 5:
      row_of_tiles<5>(n, depth, a, b, ldb, c, ldc, add);
      break;
    default:
      break;
  }
}

}  // namespace resurface
