// The stage store: computed once, kept whole, resumed after a kill.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <csignal>
#include <thread>

#include "core/run/error.h"
#include "core/run/files.h"
#include "study/store.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Scratch {
  fs::path path;
  Scratch() {
    auto name = (fs::temp_directory_path() / "resurface-test-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Scratch() { fs::remove_all(path); }
};

StageKey key_of(int64_t seed) { return stage_key("plant", {{"seed", seed}}, {"abc"}, 1); }

/// Entries of the store's root that are no bookkeeping.
std::vector<std::string> stages(const fs::path& root) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(root)) {
    std::string name = entry.path().filename();
    if (name != "locks" && name != "partial") names.push_back(name);
  }
  return names;
}

TEST_CASE("a stage's key depends on all that determines it, and on nothing else") {
  auto key = stage_key("plant", {{"a", 1}, {"b", 0.5}}, {"x", "y"}, 1);
  CHECK(key.hash == stage_key("plant", {{"b", 0.5}, {"a", 1}}, {"x", "y"}, 1).hash);
  CHECK(key.hash != stage_key("remove", {{"a", 1}, {"b", 0.5}}, {"x", "y"}, 1).hash);
  CHECK(key.hash != stage_key("plant", {{"a", 2}, {"b", 0.5}}, {"x", "y"}, 1).hash);
  CHECK(key.hash != stage_key("plant", {{"a", 1}, {"b", 0.5}}, {"y", "x"}, 1).hash);
  CHECK(key.hash != stage_key("plant", {{"a", 1}, {"b", 0.5}}, {"x", "y"}, 2).hash);
  CHECK(key.hash.size() == 32);
}

TEST_CASE("a stage is computed once and found again") {
  Scratch scratch;
  Store store(scratch.path / "store");
  int made = 0;
  auto make = [&](const fs::path& folder) {
    ++made;
    atomic_write(store.partial(key_of(1), "state"), "half");
    atomic_write(folder / "model" / "x", "weights");
    return Json{{"flops", 5.0}, {"tokens", 7}};
  };
  CHECK(!store.done(key_of(1)));
  auto first = store.get(key_of(1), "plant/a", make);
  CHECK(!first.reused);
  CHECK(first.key == key_of(1).hash);
  CHECK(read_text(first.folder / "model" / "x") == "weights");
  CHECK(!fs::exists(scratch.path / "store" / "partial" / key_of(1).name()));
  auto again = Store(scratch.path / "store").get(key_of(1), "plant/a", make);
  CHECK(again.reused);
  CHECK(again.cost == first.cost);
  CHECK(made == 1);
  CHECK(!store.get(key_of(2), "plant/b", make).reused);
  CHECK(made == 2);

  auto record = read_json(first.folder / "stage.json");
  CHECK(record["settings"]["seed"] == 1);
  CHECK(record["inputs"][0] == "abc");

  atomic_write(first.folder / "stage.json", "{");
  CHECK_THROWS_WITH(store.get(key_of(1), "plant/a", make), Catch::Contains("damaged"));
}

TEST_CASE("a stage that fails leaves nothing but its partial files") {
  Scratch scratch;
  Store store(scratch.path);
  CHECK_THROWS_WITH(store.get(key_of(1), "plant",
                              [&](const fs::path& folder) -> Json {
                                atomic_write(folder / "x", "1");
                                atomic_write(store.partial(key_of(1), "state"), "half");
                                throw Error("no luck");
                              }),
                    "no luck");
  CHECK(!store.done(key_of(1)));
  CHECK(stages(scratch.path).empty());
  CHECK(read_text(store.partial(key_of(1), "state")) == "half");
}

TEST_CASE("a killed stage is computed anew from its partial files") {
  Scratch scratch;
  Store store(scratch.path);
  pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    store.get(key_of(1), "plant", [&](const fs::path& folder) -> Json {
      atomic_write(folder / "x", "torn");
      atomic_write(store.partial(key_of(1), "state"), "half");
      std::raise(SIGKILL);
      return {};
    });
    std::_Exit(1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  CHECK(!store.done(key_of(1)));
  CHECK(stages(scratch.path).size() == 1);  // the temporary folder

  auto stage = store.get(key_of(1), "plant", [&](const fs::path& folder) {
    CHECK(fs::is_empty(folder));
    atomic_write(folder / "x", read_text(store.partial(key_of(1), "state")) + " and whole");
    return Json::object();
  });
  CHECK(read_text(stage.folder / "x") == "half and whole");
  CHECK(stages(scratch.path) == std::vector<std::string>{key_of(1).name()});
}

TEST_CASE("two at once: one computes, the other waits for it") {
  Scratch scratch;
  std::atomic<int> made = 0, reused = 0;
  auto work = [&] {
    auto stage = Store(scratch.path).get(key_of(1), "plant", [&](const fs::path&) {
      ++made;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return Json::object();
    });
    reused += stage.reused;
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(made == 1);
  CHECK(reused == 1);
}

}  // namespace
}  // namespace resurface
