#include "core/run/interrupt.h"

#include <csignal>

#include "core/run/error.h"

namespace resurface {
namespace {

// A signal handler can reach nothing but a global of this type.
volatile std::sig_atomic_t flag = 0;

void on_signal(int signal) {
  if (flag) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  flag = 1;
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return flag != 0; }

void check_interrupted() {
  if (flag) throw Interrupted();
}

void set_interrupted(bool value) { flag = value; }

}  // namespace resurface
