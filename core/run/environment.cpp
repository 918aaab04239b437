#include "core/run/environment.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <torch/headeronly/version.h>

#include <array>
#include <fstream>
#include <thread>

#include "core/run/device.h"

namespace resurface {
namespace {

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

/// Through the driver, found at run time: a CPU build has no CUDA headers.
std::string gpu_name(int index) {
  std::unique_ptr<void, int (*)(void*)> driver(
      dlopen("libcuda.so.1", RTLD_NOW), [](void* handle) { return handle ? dlclose(handle) : 0; });
  if (!driver) return "unknown";
  auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver.get(), "cuInit"));
  auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver.get(), "cuDeviceGet"));
  auto name = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver.get(), "cuDeviceGetName"));
  std::array<char, 256> text{};
  int device = 0;
  bool found = init && get && name && init(0) == 0 && get(&device, index) == 0 &&
               name(text.data(), static_cast<int>(text.size()), device) == 0;
  return found ? text.data() : "unknown";
}

}  // namespace

std::string version() { return RESURFACE_VERSION; }

nlohmann::ordered_json environment(uint64_t seed, c10::Device device) {
  nlohmann::ordered_json json = {
      {"resurface", version()},
      {"torch", TORCH_VERSION},
      {"compiler", __VERSION__},
      {"cpu", cpu_model()},
      {"cores", std::thread::hardware_concurrency()},
      {"cpu_capability", at::get_cpu_capability()},
      {"cpu_bf16", cpu_has_bf16()},
      {"device", device.str()},
      {"gpu", nullptr},
      {"threads", at::get_num_threads()},
      {"seed", seed},
  };
  if (device.is_cuda()) json["gpu"] = gpu_name(std::max<int>(device.index(), 0));
  return json;
}

}  // namespace resurface
