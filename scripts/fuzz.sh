#!/usr/bin/env bash
# libFuzzer on everything that reads bytes from outside (tests/core/fuzz/targets.cpp).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/fuzz.sh [--seconds N] [--jobs N] [--keep] [TARGET ...]

  TARGET     safetensors, pickle, pickle_file, model_config, tokenizer, chat, yaml (default: all)
  --seconds  of each target (default 60)
  --jobs     targets at once (default 2)
  --keep     afterwards put the inputs that reach something new into tests/data/fuzz/*.txt, which the tests replay

Needs clang with its sanitizer runtimes, 16 or newer (Debian: clang-19 libclang-rt-19-dev); $CLANGXX names another than
clang++-19. What crashes, hangs for 10 s or takes 2 GB is left in build/fuzz/found/TARGET, and the exit status is 1.
TEXT
}

seconds=60 jobs=2 keep=0 targets=()
while (($#)); do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --seconds | --jobs)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: $1 needs a number" >&2 && exit 2; }
      if [[ $1 == --seconds ]]; then seconds=$2; else jobs=$2; fi
      shift
      ;;
    --keep) keep=1 ;;
    -*) usage >&2 && exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
((${#targets[@]})) || targets=(safetensors pickle pickle_file model_config tokenizer chat yaml)

clang=${CLANGXX:-clang++-19}
command -v "$clang" >/dev/null || { echo "fuzz: no $clang (Debian: apt install clang-19 libclang-rt-19-dev)" >&2 && exit 1; }
arguments=("-DCMAKE_CXX_COMPILER=$clang")
if [[ -n ${Torch_ROOT:-} ]]; then arguments+=("-DTorch_ROOT=$Torch_ROOT"); fi
cmake --preset fuzz "${arguments[@]}" >/dev/null
cmake --build --preset fuzz --target fuzzer >&2

fuzz() {
  local target=$1 found=build/fuzz/found/$1 corpus=build/fuzz/corpus/$1 status=0
  mkdir -p "$found" "$corpus"
  python3 scripts/fuzz_corpus.py unpack "tests/data/fuzz/$target.txt" "build/fuzz/seeds/$target"
  RESURFACE_FUZZ=$target build/fuzz/tests/fuzzer -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
    -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$found/" "$corpus" "build/fuzz/seeds/$target" \
    >"build/fuzz/$target.log" 2>&1 || status=$?
  runs=$(grep -oP 'number_of_executed_units: \K\d+' "build/fuzz/$target.log" || echo "?")
  echo "$target: $runs inputs, $(ls "$corpus" | wc -l) new ones kept, $( ((status)) && echo "FOUND something: build/fuzz/$target.log" || echo "nothing found")"
  return "$status"
}
export -f fuzz
export seconds
export ASAN_OPTIONS=detect_odr_violation=0:detect_leaks=0:allocator_may_return_null=1 OMP_NUM_THREADS=1
status=0
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I{} bash -c 'fuzz {}' || status=1

if ((keep)); then
  for target in "${targets[@]}"; do
    # Only what fits in a few kilobytes: the tests read all of it every time.
    find "build/fuzz/corpus/$target" -type f -size +3k -delete
    RESURFACE_FUZZ=$target build/fuzz/tests/fuzzer -set_cover_merge=1 "build/fuzz/seeds/$target" \
      "build/fuzz/corpus/$target" >/dev/null 2>&1
    python3 scripts/fuzz_corpus.py pack "build/fuzz/seeds/$target" "tests/data/fuzz/$target.txt"
  done
fi
exit "$status"
