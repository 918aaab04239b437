// Everything that reads bytes from outside, as functions of those bytes: tests/fuzz/fuzzer.cpp
// gives them what libFuzzer makes up (scripts/fuzz.sh), test_corpus.cpp what it found worth
// keeping.
#pragma once

#include <span>
#include <string_view>

namespace resurface {

/// `run` returns, whatever the bytes are: refusing them with an Error is a good answer. Any other
/// exception, a crash, a hang or a read out of bounds is a defect.
struct FuzzTarget {
  const char* name;
  void (*run)(std::string_view bytes);
};

std::span<const FuzzTarget> fuzz_targets();

}  // namespace resurface
