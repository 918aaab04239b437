// What scripts/fuzz.sh has found so far: every line of tests/data/fuzz/TARGET.txt (an input in
// base64) goes through its target.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/text/base64.h"
#include "tests/core/fuzz/targets.h"

namespace resurface {

TEST_CASE("fuzz: the corpus is read or refused") {
  for (const auto& target : fuzz_targets()) {
    DYNAMIC_SECTION(target.name) {
      std::ifstream corpus(std::filesystem::path(RESURFACE_TEST_DATA) / "fuzz" /
                           (std::string(target.name) + ".txt"));
      int64_t inputs = 0;
      for (std::string line; std::getline(corpus, line); ++inputs) {
        INFO("line " << inputs + 1);
        const auto bytes = from_base64(line);
        REQUIRE(bytes.has_value());
        CHECK_NOTHROW(target.run(*bytes));
        if (bytes->empty()) continue;
        // Cut short and with a bit turned: what a bad disk or download makes of it.
        CHECK_NOTHROW(target.run(std::string_view(*bytes).substr(0, bytes->size() / 2)));
        std::string turned = *bytes;
        turned[turned.size() / 3] ^= 4;
        CHECK_NOTHROW(target.run(turned));
      }
      CHECK(inputs >= 20);
    }
  }
}

}  // namespace resurface
