// Independent random streams: each stage derives its own seed, so adding or resuming one changes no
// other.
#pragma once

#include <cstdint>
#include <string_view>

namespace resurface {

/// A seed that depends on both; the same on every machine.
uint64_t derive_seed(uint64_t seed, std::string_view label);

}  // namespace resurface
