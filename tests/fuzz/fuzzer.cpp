// libFuzzer's entrance to one of the targets of tests/core/fuzz: RESURFACE_FUZZ=pickle
// build/fuzz/fuzzer
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/core/fuzz/targets.h"

namespace {

const resurface::FuzzTarget& chosen() {
  const char* name = std::getenv("RESURFACE_FUZZ");
  for (const auto& target : resurface::fuzz_targets()) {
    if (name != nullptr && std::strcmp(name, target.name) == 0) return target;
  }
  std::fprintf(stderr, "RESURFACE_FUZZ names one of:");
  for (const auto& target : resurface::fuzz_targets()) std::fprintf(stderr, " %s", target.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& target = chosen();
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
