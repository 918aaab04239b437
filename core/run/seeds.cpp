#include "core/run/seeds.h"

#include <xxhash.h>

namespace resurface {

uint64_t derive_seed(uint64_t seed, std::string_view label) {
  return XXH3_64bits_withSeed(label.data(), label.size(), seed);
}

}  // namespace resurface
