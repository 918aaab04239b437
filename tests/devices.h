// Every test of a tensor computation runs on the CPU and, where there is one, on a GPU.
#pragma once

#include <ATen/Context.h>

#include <vector>

namespace resurface {

inline std::vector<at::Device> devices() {
  std::vector<at::Device> all = {at::kCPU};
  if (at::hasCUDA()) all.emplace_back(at::kCUDA, 0);
  return all;
}

}  // namespace resurface
