#include "core/checkpoint/tensor_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

namespace resurface {

std::string hash_tensors(std::vector<TensorSource> tensors) {
  std::ranges::sort(tensors, {}, &TensorSource::name);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  for (const TensorSource& t : tensors) {
    const std::string head =
        fmt::format("{} {} [{}]\n", t.name, at::toString(t.dtype), fmt::join(t.shape, ", "));
    XXH3_128bits_update(state.get(), head.data(), head.size());
    const at::Tensor bytes = t.load().detach().cpu().contiguous();
    XXH3_128bits_update(state.get(), bytes.const_data_ptr(), bytes.nbytes());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string hash_tensors(std::vector<std::pair<std::string, at::Tensor>> tensors) {
  std::vector<TensorSource> sources;
  for (auto& [name, tensor] : tensors) {
    sources.push_back({std::move(name), tensor.scalar_type(), tensor.sizes().vec(),
                       [tensor = tensor] { return tensor; }});
  }
  return hash_tensors(std::move(sources));
}

}  // namespace resurface
