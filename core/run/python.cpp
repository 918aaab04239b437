#include "core/run/python.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/run/error.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

std::string interpreter() {
  if (const char* chosen = std::getenv("RESURFACE_PYTHON"); chosen && *chosen) return chosen;
  std::vector<fs::path> environments = {fs::path(RESURFACE_SOURCE_DIR) / ".venv"};
  if (const char* chosen = std::getenv("RESURFACE_VENV"); chosen && *chosen) {
    environments.insert(environments.begin(), chosen);
  }
  for (const fs::path& environment : environments) {
    if (fs::exists(environment / "bin/python")) return environment / "bin/python";
  }
  return "python3";
}

}  // namespace

void run_script(const std::string& name, const std::vector<std::string>& arguments) {
  const std::string python = interpreter();
  std::vector<std::string> words = {python,
                                    (fs::path(RESURFACE_SOURCE_DIR) / "scripts" / name).string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::fflush(stdout);  // what was printed comes before what the script prints
  pid_t child = 0;
  if (int code = ::posix_spawnp(&child, python.c_str(), nullptr, nullptr, argv.data(), environ)) {
    fail(
        "{}: {}; scripts/{} needs a Python: name one in RESURFACE_PYTHON, or make the project's "
        "with bash scripts/setup.sh",
        python, std::strerror(code), name);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail("{}: waiting for scripts/{}: {}", python, name, std::strerror(errno));
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fail("{} failed: {}", name, fmt::join(words, " "));
  }
}

}  // namespace resurface
