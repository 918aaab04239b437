// environment.json of a run: what the numbers came from.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <nlohmann/json.hpp>

namespace resurface {

/// Versions (resurface, torch, compiler), processor, cores, capability, GPU, threads, seed.
nlohmann::ordered_json environment(uint64_t seed, c10::Device device);

/// "0.1.0"
std::string version();

}  // namespace resurface
