#include "core/checkpoint/tensor_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

namespace resurface {

std::string hash_tensors(std::vector<std::pair<std::string, at::Tensor>> tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  for (const auto& [name, tensor] : tensors) {
    const std::string head = fmt::format("{} {} [{}]\n", name, at::toString(tensor.scalar_type()),
                                         fmt::join(tensor.sizes(), ", "));
    XXH3_128bits_update(state.get(), head.data(), head.size());
    const at::Tensor bytes = tensor.detach().cpu().contiguous();
    XXH3_128bits_update(state.get(), bytes.const_data_ptr(), bytes.nbytes());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace resurface
