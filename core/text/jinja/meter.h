// What bounds a template: a template is data from elsewhere and may be hostile.
#pragma once

#include <cstdint>
#include <string>

#include "core/run/error.h"

namespace resurface::jinja {

/// A template did what Jinja refuses, or what is not known here. Caught where the place is known.
class Fault : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fault(fmt::format_string<Args...> format, Args&&... args) {
  throw Fault(fmt::format(format, std::forward<Args>(args)...));
}

struct Limits {
  int64_t steps = 20'000'000;    ///< of the interpreter; 16 bytes of new text count as one
  int64_t text = 16 << 20;       ///< bytes of one string
  int64_t depth = 500;           ///< of nested evaluation, macros' calls included
  int64_t nesting = 200;         ///< of lists and dicts in one another, and of expressions
  int64_t source = 1024 * 1024;  ///< bytes of a template
};

/// Counts what a rendering has used of its limits.
class Meter {
 public:
  explicit Meter(Limits limits) : limits_(limits) {}
  const Limits& limits() const { return limits_; }

  void spend(int64_t steps) {
    used_ += steps;
    if (used_ > limits_.steps) fault("the template takes more than {} steps", limits_.steps);
  }
  /// A string of so many bytes is about to be made.
  void make_text(size_t bytes) {
    if (bytes > static_cast<size_t>(limits_.text)) {
      fault("the template makes a string of more than {} bytes", limits_.text);
    }
    spend(1 + static_cast<int64_t>(bytes) / 16);
  }

  /// One level deeper, for the lifetime of the guard.
  class Level {
   public:
    explicit Level(Meter& meter) : meter_(meter) {
      if (++meter_.depth_ > meter_.limits_.depth) {
        --meter_.depth_;
        fault("the template nests more than {} levels deep", meter_.limits_.depth);
      }
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --meter_.depth_; }

   private:
    Meter& meter_;
  };

 private:
  Limits limits_;
  int64_t used_ = 0, depth_ = 0;
};

}  // namespace resurface::jinja
