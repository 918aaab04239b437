// Files that are whole or not there, hashes, seeds, devices, costs.
#include <sys/auxv.h>

#include <catch2/catch.hpp>

#include <csignal>
#include <fstream>

#include "core/run/device.h"
#include "core/run/environment.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/run/resources.h"
#include "core/run/seeds.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

/// A folder of this test's own, gone afterwards.
struct Scratch {
  fs::path path;
  Scratch() {
    auto name = (fs::temp_directory_path() / "resurface-test-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Scratch() { fs::remove_all(path); }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(path)) {
      result.push_back(entry.path().filename());
    }
    std::sort(result.begin(), result.end());
    return result;
  }
};

void write_raw(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

TEST_CASE("atomic_write replaces whole files and leaves nothing else behind") {
  Scratch scratch;
  auto file = scratch.path / "a" / "x.txt";
  atomic_write(file, "one");
  atomic_write(file, std::string("two\0three", 9));
  CHECK(read_text(file) == std::string("two\0three", 9));
  CHECK(std::distance(fs::directory_iterator(scratch.path / "a"), {}) == 1);

  fs::create_directory(scratch.path / "taken");
  write_raw(scratch.path / "taken" / "x", "");
  CHECK_THROWS_AS(atomic_write(scratch.path / "taken", "text"), Error);
  CHECK(scratch.names() == std::vector<std::string>{"a", "taken"});
  CHECK_THROWS_WITH(read_text(scratch.path / "none"), Catch::Contains("No such file"));
}

TEST_CASE("a full disk is said in words") {
  if (!fs::exists("/dev/full")) return;
  JsonLines lines("/dev/full");
  CHECK_THROWS_WITH(lines.append({{"a", 1}}), Catch::Contains("no space left"));
}

TEST_CASE("JSON lines: append, torn last line, line numbers in errors") {
  Scratch scratch;
  auto file = scratch.path / "r.jsonl";
  {
    JsonLines lines(file);
    lines.append({{"z", 1}, {"a", "台湾"}});
  }
  CHECK(read_text(file) == "{\"z\":1,\"a\":\"台湾\"}\n");
  write_raw(file, "{\"a\":1}\n{\"a\":2}\n{\"a\":");
  CHECK(read_json_lines(file, TornLine::drop).size() == 2);
  CHECK_THROWS_WITH(read_json_lines(file), Catch::Contains("r.jsonl:3: not valid JSON"));
  {
    JsonLines lines(file);
    lines.append({{"a", 3}});
  }
  CHECK(read_text(file) == "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");

  write_raw(file, "{\"a\":1}\n\nnope\n{\"a\":2}\n");
  CHECK_THROWS_WITH(read_json_lines(file, TornLine::drop), Catch::Contains("r.jsonl:3:"));
  write_raw(file, "{\"a\":1}\n\n{\"b\":2}");
  auto use = [](const nlohmann::json& value, int64_t) { (void)value.at("a"); };
  CHECK_THROWS_WITH(for_each_json_line(file, use), Catch::Contains("r.jsonl:3:"));
}

TEST_CASE("a temporary folder appears whole, or not at all") {
  Scratch scratch;
  auto target = scratch.path / "stage";
  { TemporaryFolder folder(target); }
  CHECK(scratch.names().empty());
  {
    TemporaryFolder folder(target);
    atomic_write(folder.path() / "in" / "x", "1");
    CHECK(!fs::exists(target));
    folder.commit();
  }
  CHECK(read_text(target / "in" / "x") == "1");
  {
    TemporaryFolder folder(target.string() + "/");
    atomic_write(folder.path() / "y", "2");
    folder.commit();
  }
  CHECK(read_text(target / "y") == "2");
  CHECK(!fs::exists(target / "in"));
  CHECK(scratch.names() == std::vector<std::string>{"stage"});
}

TEST_CASE("hashes") {
  // XXH3 128 bits of the empty input, from xxHash's own documentation.
  CHECK(hash_text("") == "99aa06d3014798d86001c324468d497f");
  std::string text(3'000'000, 'x');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  Scratch scratch;
  write_raw(scratch.path / "f", text);
  CHECK(hash_file(scratch.path / "f") == hash_text(text));
  CHECK(Hasher().add(text.substr(0, 100)).add(text.substr(100)).hex() == hash_text(text));
  CHECK(hash_text("a") != hash_text("b"));
  CHECK_THROWS_AS(hash_file(scratch.path / "none"), Error);
}

TEST_CASE("seeds depend on both seed and label") {
  CHECK(derive_seed(1, "a") == derive_seed(1, "a"));
  CHECK(derive_seed(1, "a") != derive_seed(2, "a"));
  CHECK(derive_seed(1, "a") != derive_seed(1, "b"));
}

TEST_CASE("devices and dtypes") {
  CHECK(parse_device("cpu").is_cpu());
  for (const char* text : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", ""}) {
    CHECK_THROWS_WITH(parse_device(text), Catch::Contains("unknown device"));
  }
  CHECK_THROWS_AS(parse_device("cuda:99"), ConfigError);
  CHECK(parse_compute_dtype("bf16", at::kCPU) == at::kBFloat16);
  CHECK(parse_compute_dtype("fp32", at::kCUDA) == at::kFloat);
  CHECK(parse_compute_dtype("auto", at::kCUDA) == at::kBFloat16);
  CHECK(parse_compute_dtype("auto", at::kCPU) == (cpu_has_bf16() ? at::kBFloat16 : at::kFloat));
  CHECK_THROWS_AS(parse_compute_dtype("fp16", at::kCPU), ConfigError);
}

TEST_CASE("costs add up, and the peak is a maximum") {
  Cost cost{10, 20, 1.5, 100};
  cost += {1, 2, 0.5, 50};
  nlohmann::json json = cost;
  CHECK(json.dump() == R"({"flops":11.0,"peak_bytes":100,"seconds":2.0,"tokens":22})");
  CHECK(json.get<Cost>().tokens == 22);
}

TEST_CASE("peak memory sees a large allocation") {
  reset_peak_memory();
  int64_t before = peak_memory();
  auto tensor = at::ones({64 << 20}, at::kByte);
  CHECK(peak_memory() >= before + (32 << 20));
  CHECK(tensor.numel() == 64 << 20);
}

TEST_CASE("an interrupt is an exception at the next check") {
  catch_interrupts();
  CHECK_NOTHROW(check_interrupted());
  std::raise(SIGINT);
  CHECK(interrupted());
  CHECK_THROWS_AS(check_interrupted(), Interrupted);
  set_interrupted(false);

  // Handled on a stack of its own, large enough for the processor's registers: a product of oneDNN
  // may have the stack pointer on the heap when it comes.
  struct sigaction action {};
  stack_t stack{};
  REQUIRE(sigaction(SIGINT, nullptr, &action) == 0);
  REQUIRE(sigaltstack(nullptr, &stack) == 0);
  CHECK((action.sa_flags & SA_ONSTACK) != 0);
  CHECK((stack.ss_flags & SS_DISABLE) == 0);
  CHECK(stack.ss_size >= getauxval(AT_MINSIGSTKSZ));
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

TEST_CASE("the environment says what the numbers came from") {
  auto json = environment(7, at::kCPU);
  CHECK(json["seed"] == 7);
  CHECK(json["resurface"] == version());
  CHECK(json["device"] == "cpu");
  CHECK(json["gpu"].is_null());
  CHECK(json["cores"] >= 1);
}

TEST_CASE("seconds for people") {
  CHECK(human_seconds(8.26) == "8.3 s");
  CHECK(human_seconds(125) == "2 min 05 s");
  CHECK(human_seconds(4320) == "1 h 12 min");
}

}  // namespace
}  // namespace resurface
