#include "study/report.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "core/run/error.h"

namespace resurface {

void write_report(const std::filesystem::path& run) {
  const auto script = std::filesystem::path(RESURFACE_SOURCE_DIR) / "scripts" / "report.py";
  const char* chosen = std::getenv("RESURFACE_PYTHON");
  const std::string python = chosen != nullptr ? chosen : "python3";
  std::fflush(stdout);  // what was printed comes before what the script prints
  const pid_t child = fork();
  if (child < 0) fail("could not start {}", python);
  if (child == 0) {
    execlp(python.c_str(), python.c_str(), script.c_str(), run.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    fail("{} was not found; the figures are in {}, and the page is drawn by: python3 {} {}", python,
         run.string(), script.string(), run.string());
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fail("{} {} {} failed", python, script.string(), run.string());
  }
}

}  // namespace resurface
