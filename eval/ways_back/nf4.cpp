// 4-bit NormalFloat (Dettmers et al. 2023, QLoRA, appendix E): a matrix is read row by row in
// blocks of 64 weights, each divided by its largest magnitude and replaced by the nearest of 16
// values, quantiles of the normal distribution. The values are those of bitsandbytes, and like its
// kernel a weight half-way between two takes the lower. The scales stay in full precision (no
// double quantisation).

#include "eval/ways_back/groups.h"
#include "eval/ways_back/ways.h"

namespace resurface {
namespace {

constexpr std::array<double, 16> kCodes = {
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
};

}  // namespace

at::Tensor nf4(const Nf4Settings& s, const at::Tensor& weight) {
  const at::Tensor codes = at::tensor(at::ArrayRef<double>(kCodes), weight.options());
  const at::Tensor middles = (codes.narrow(0, 0, 15) + codes.narrow(0, 1, 15)) / 2;
  return by_groups(weight.reshape({1, -1}), s.block,
                   [&](const at::Tensor& block) {
                     const at::Tensor scale = largest(block);
                     return codes.index({at::bucketize(block / scale, middles)}) * scale;
                   })
      .reshape(weight.sizes());
}

}  // namespace resurface
