// The reader takes the suites that scripts/make_suites.py writes; tests/suites/test_generated.py
// checks what is in them.
#include <catch2/catch.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "core/data/suite.h"

namespace resurface {

TEST_CASE("the generated suites load, in two languages") {
  struct Promise {
    std::string suite;
    size_t items;
  };
  const auto promise =
      GENERATE(Promise{"authors", 60}, Promise{"arithmetic", 100}, Promise{"birthdays", 60});
  const auto folder = std::filesystem::path(RESURFACE_SOURCE_DIR) / "suites" / promise.suite;
  for (const auto* file : {"items.jsonl", "retain.jsonl"}) {
    INFO(promise.suite << "/" << file);
    const auto suite = load_suite(folder / file);
    CHECK(suite.ids().size() == promise.items);
    CHECK(suite.items.size() == 2 * promise.items);
    CHECK(suite.languages() == std::vector<std::string>{"en", "zh-Hans"});
  }
}

}  // namespace resurface
