#include "core/run/interrupt.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

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

/// Gives the handler a stack of its own. oneDNN's fp32 product lets the stack pointer point at its
/// workspace on the heap (jit_avx512_common_gemm_f32, "buffer_in_ws"), and a signal that arrives
/// then would be handled on top of whatever lies before that workspace. A signal to the process
/// goes to its first thread, and this is called there.
void use_signal_stack() {
  static std::array<char, 64 << 10> stack;  // the registers of a processor with AMX take 11 KB
  const stack_t ours{.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
  if (sigaltstack(&ours, nullptr) != 0) fail("sigaltstack: {}", std::strerror(errno));
}

}  // namespace

void catch_interrupts() {
  use_signal_stack();
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return flag != 0; }

void check_interrupted() {
  if (flag) throw Interrupted();
}

void set_interrupted(bool value) { flag = value; }

}  // namespace resurface
