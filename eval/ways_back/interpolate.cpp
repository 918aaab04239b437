// W' = W + t (W_ref - W), in every parameter (Wortsman et al. 2022, WiSE-FT, section 3; a task
// vector scaled by 1 - t, Ilharco et al. 2023). Exact at t = 0 and t = 1.

#include "eval/ways_back/ways.h"

namespace resurface {

at::Tensor interpolate(const InterpolateSettings& s, const at::Tensor& weight,
                       const at::Tensor& reference) {
  return at::lerp(weight, reference.to(weight.scalar_type()), s.t);
}

}  // namespace resurface
