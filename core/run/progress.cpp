#include "core/run/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace resurface {
namespace {

using namespace std::chrono_literals;
constexpr auto kQuiet = 2s;

}  // namespace

std::string human_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const int64_t whole = std::llround(seconds);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) != 0),
      begin_(Clock::now()),
      next_(begin_ + kQuiet) {}

Progress::~Progress() {
  if (!shown_) return;
  fmt::print(stderr, "{}{}{}\n", terminal_ ? "\r" : "", line(), terminal_ ? "\033[K" : "");
}

void Progress::at(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  auto now = Clock::now();
  if (label_.empty() || now < next_) return;
  next_ = now + (terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000));
  shown_ = true;
  fmt::print(stderr, "{}{}{}", terminal_ ? "\r" : "", line(), terminal_ ? "\033[K" : "\n");
  std::fflush(stderr);
}

std::string Progress::line() const {
  double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  double rate = static_cast<double>(done_) / std::max(seconds, 1e-9);
  std::string text = label_ + " ";
  if (total_ > 0) {
    if (terminal_) {
      constexpr int64_t kWidth = 24;
      text += fmt::format("[{:.<24}] ",
                          fmt::format("{:#>{}}", "", kWidth * std::min(done_, total_) / total_));
    }
    text += fmt::format("{}/{}", done_, total_);
  } else {
    text += fmt::format("{}", done_);
  }
  if (!unit_.empty()) text += " " + unit_;
  text += fmt::format(", {:.3g}/s, {}", rate, human_seconds(seconds));
  if (done_ > 0 && done_ < total_) {
    text += fmt::format(", {} left", human_seconds(static_cast<double>(total_ - done_) / rate));
  }
  return note_.empty() ? text : text + ", " + note_;
}

}  // namespace resurface
