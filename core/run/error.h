// Errors that a user reads. Everything thrown on purpose is one of these; main() turns them into a
// message and an exit code.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace resurface {

/// Something failed for a reason the user can act on. Exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The command line or a config file is wrong. Exit code 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// The user pressed Ctrl-C; everything finished so far is kept. Exit code 130.
class Interrupted : public Error {
 public:
  Interrupted() : Error("interrupted; everything finished so far is kept, run again to resume") {}
};

/// throw Error with a formatted message: fail("{}: expected {}, got {}", path, a, b).
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace resurface
