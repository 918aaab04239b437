#include "core/run/resources.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <fstream>

namespace resurface {

Cost& Cost::operator+=(const Cost& other) {
  flops += other.flops;
  tokens += other.tokens;
  seconds += other.seconds;
  peak_bytes = std::max(peak_bytes, other.peak_bytes);
  return *this;
}

void to_json(nlohmann::ordered_json& json, const Cost& cost) {
  json = {{"flops", cost.flops},
          {"tokens", cost.tokens},
          {"seconds", cost.seconds},
          {"peak_bytes", cost.peak_bytes}};
}

void to_json(nlohmann::json& json, const Cost& cost) {
  nlohmann::ordered_json ordered = cost;
  json = ordered;
}

void from_json(const nlohmann::json& json, Cost& cost) {
  json.at("flops").get_to(cost.flops);
  json.at("tokens").get_to(cost.tokens);
  json.at("seconds").get_to(cost.seconds);
  json.at("peak_bytes").get_to(cost.peak_bytes);
}

int64_t peak_memory(c10::Device device) {
  if (!device.is_cpu()) {
    auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    return stats.allocated_bytes[0].peak;
  }
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

bool reset_peak_memory(c10::Device device) {
  if (!device.is_cpu()) {
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
    return true;
  }
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;  // proc(5): 5 resets VmHWM to the current size
  return clear.good();
}

}  // namespace resurface
