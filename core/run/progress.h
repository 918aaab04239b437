// Progress on stderr: a bar that redraws itself on a terminal, a plain line every ten seconds
// elsewhere, nothing for what takes under two seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace resurface {

class Progress {
 public:
  /// `total` in `unit`s; 0: unknown. An empty label: silent.
  Progress(std::string label, int64_t total, std::string unit = "");
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` units are finished; `note` follows the bar ("loss 2.31").
  void at(int64_t done, const std::string& note = "");
  void add(int64_t units = 1, const std::string& note = "") { at(done_ + units, note); }

 private:
  using Clock = std::chrono::steady_clock;
  std::string line() const;

  std::string label_, unit_, note_;
  int64_t total_ = 0, done_ = 0;
  bool terminal_ = false, shown_ = false;
  Clock::time_point begin_, next_;
};

/// "8.3 s", "2 min 05 s", "1 h 12 min".
std::string human_seconds(double seconds);

}  // namespace resurface
